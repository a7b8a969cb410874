// Gradients of the weighted sum: dy[pair] = weights[pair] * dout[t], dweights[pair] = dout[t] . y[pair].
// One workgroup per pair (token, slot); threads stride over the columns.
#import "include/fold.wgsl"
#import "include/sum.wgsl"
#import "include/moe.wgsl"

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> dout: array<f32>;
@group(0) @binding(3) var<storage, read_write> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dweights: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let pair = folded(workgroup);
    if pair >= pairs() {
        return;
    }
    let base = pair * params.width;
    let start = pair / params.slots * params.width;
    let weight = weights[pair];
    var product = 0.0;
    for (var i = thread; i < params.width; i += 256u) {
        let gradient = dout[start + i];
        product += gradient * y[base + i];
        dy[base + i] = weight * gradient;
    }
    let total = workgroup_sum(thread, product);
    if thread == 0u {
        dweights[pair] = total;
    }
}
