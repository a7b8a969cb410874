// Gradient of the queries: 32 queries of one head per workgroup, tiles of 32 keys.
// P = exp(S - lse), dS = P * (dout v^T - delta) * slope(S), dq = dS k.
// Grid (ceil(queries / 32), heads, batch).
#import "include/attention_backward.wgsl"
#import "include/attention_products.wgsl" NAME=query_key_products OWN=q_at OWN_END=params.queries OTHER=k_at OTHER_END=end
#import "include/attention_products.wgsl" NAME=dout_value_products OWN=dout_at OWN_END=params.queries OTHER=v_at OTHER_END=end
#import "include/attention_sums.wgsl" NAME=add_keys OTHER=k_at OTHER_END=end

@group(0) @binding(6) var<storage, read_write> dq: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = workgroup.x * TILE;
    let heads = Heads(workgroup.z, workgroup.y, workgroup.y / (params.heads / params.kv_heads));
    let tx = thread % 8u;
    let ty = thread / 8u;
    let row = first + ty * 4u;
    var sums: array<vec4<f32>, KEPT * 4u>;
    let range = visible_by_all(heads.sequence, first, min(first + TILE, params.queries));
    for (var base = range.x / TILE * TILE; base < range.y; base += TILE) {
        var scores: array<vec4<f32>, 4>;
        query_key_products(&scores, heads, first, base, range.y, thread);
        var dp: array<vec4<f32>, 4>;
        dout_value_products(&dp, heads, first, base, range.y, thread);
        for (var i = 0u; i < 4u; i++) {
            let row_stats = stats_at(heads, row + i);
            let hidden = masked(visible(heads.sequence, row + i), base + tx * 4u);
            let score = scores_of(scores[i]);
            let p = select(exp(score - row_stats.x), vec4<f32>(), hidden);
            let slope = vec4<f32>(slope_of(score.x), slope_of(score.y), slope_of(score.z), slope_of(score.w));
            weights[(i * 8u + ty) * STRIDE + tx] = p * (dp[i] - row_stats.y) * slope;
        }
        add_keys(&sums, heads, base, range.y, 0u, thread);
    }
    for (var i = 0u; i < 4u; i++) {
        for (var slab = 0u; slab < SLABS; slab++) {
            let column = slab * 8u + tx;
            if row + i < params.queries && column < params.head_dim / 4u {
                dq[query_base(heads.sequence, row + i, heads.query) + column] = sums[slab * 4u + i];
            }
        }
    }
}
