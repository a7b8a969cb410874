// out[t] = sum over the slots of weights[t, slot] * y[t * slots + slot]. One thread per element of out.
#import "include/fold.wgsl"
#import "include/moe.wgsl"

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i >= params.tokens * params.width {
        return;
    }
    let first = i / params.width * params.slots;
    var sum = 0.0;
    for (var pair = first; pair < first + params.slots; pair++) {
        sum += weights[pair] * y[pair * params.width + i % params.width];
    }
    out[i] = sum;
}
