// dx[t] (+)= sum over the slots of dpairs[t * slots + slot]. One thread per element of dx.
#import "include/fold.wgsl"
#import "include/moe.wgsl"

@group(0) @binding(0) var<storage, read> dpairs: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i >= params.tokens * params.width {
        return;
    }
    let first = i / params.width * params.slots;
    var sum = select(0.0, dx[i], params.accumulate != 0u);
    for (var pair = first; pair < first + params.slots; pair++) {
        sum += dpairs[pair * params.width + i % params.width];
    }
    dx[i] = sum;
}
