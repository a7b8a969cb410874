// out = value. One thread per element.
#import "include/fold.wgsl"
#import "include/elementwise.wgsl"

@group(0) @binding(0) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i < params.len {
        out[i] = params.value;
    }
}
