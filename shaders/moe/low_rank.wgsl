// c[pair, j] (+)= alpha * sum_k a[pair / slots, k] * w[expert of the pair, j, k], or w[expert, k, j] if
// `transposed`: the small products of updates on experts. One thread per element of c.
#import "include/fold.wgsl"
#import "include/moe_low_rank.wgsl"

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i >= params.pairs * params.n {
        return;
    }
    let pair = i / params.n;
    let j = i % params.n;
    let transposed = params.transposed != 0u;
    let step = select(1u, params.n, transposed);
    var at = ids[pair] * params.n * params.k + select(j * params.k, j, transposed);
    let row = pair / params.slots * params.k;
    var sum = 0.0;
    for (var k = 0u; k < params.k; k++) {
        sum += a[row + k] * w[at];
        at += step;
    }
    c[i] = select(0.0, c[i], params.accumulate != 0u) + params.alpha * sum;
}
