// dw[expert, i, j] += alpha * sum over the expert's pairs, in their order, of a[pair, i] * b[pair / slots, j]:
// gradients of updates on experts. One thread per element of dw; `counts` tells where an expert's pairs begin in the
// sorted list.
#import "include/fold.wgsl"
#import "include/moe_low_rank.wgsl"

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> counts: array<u32>;
@group(0) @binding(3) var<storage, read> list: array<u32>;
@group(0) @binding(4) var<storage, read_write> dw: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = folded(workgroup) * 256u + thread;
    if index >= params.experts * params.n * params.k {
        return;
    }
    let expert = index / (params.n * params.k);
    let i = index / params.k % params.n;
    let j = index % params.k;
    var first = 0u;
    for (var e = 0u; e < expert; e++) {
        first += counts[e];
    }
    var sum = 0.0;
    for (var at = first; at < first + counts[expert]; at++) {
        let pair = list[at];
        sum += a[pair * params.n + i] * b[pair / params.slots * params.k + j];
    }
    dw[index] += params.alpha * sum;
}
