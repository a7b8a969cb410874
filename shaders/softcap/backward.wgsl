// Gradient of the soft cap in place: dx *= 1 - (y / cap)^2 with the capped values y. One thread per element.
#import "include/fold.wgsl"
#import "include/softcap.wgsl"
#import "include/softcap_params.wgsl"

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i < params.len {
        dx[i] *= capped_slope(y[i], params.cap);
    }
}
