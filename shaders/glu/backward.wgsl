// Gradients of the gated linear unit: dgate = dout * up * activation'(gate), dup = dout * activation(gate).
// One thread per element.
#import "include/fold.wgsl"
#import "include/activation.wgsl"
#import "include/glu.wgsl"

@group(0) @binding(0) var<storage, read> gate: array<f32>;
@group(0) @binding(1) var<storage, read> up: array<f32>;
@group(0) @binding(2) var<storage, read> dout: array<f32>;
@group(0) @binding(3) var<storage, read_write> dgate: array<f32>;
@group(0) @binding(4) var<storage, read_write> dup: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i < params.len {
        let value = activate(params.activation, gate[i]);
        dgate[i] = dout[i] * up[i] * value.y;
        dup[i] = dout[i] * value.x;
    }
}
