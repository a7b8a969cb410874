// Gradient of the queries: 32 queries of one head per workgroup, tiles of 32 keys.
// P = exp(S - lse), dS = P * (dout v^T - delta) * slope(S), dq = dS k.
// Grid (ceil(queries / 32), heads, batch).
#import "include/attention_backward.wgsl"

@group(0) @binding(6) var<storage, read_write> dq: array<vec4<f32>>;

// products[i][j] = dout of query first + ty*4 + i . value base + tx*4 + j.
fn dout_value_products(
    products: ptr<function, array<vec4<f32>, 4>>,
    heads: Heads,
    first: u32,
    base: u32,
    end: u32,
    local: u32,
) {
    for (var slab = 0u; slab < SLABS; slab++) {
        for (var n = 0u; n < 4u; n++) {
            let at = copied(local, n);
            own[at.z] = dout_at(heads, first + at.x, slab * 8u + at.y);
            other[at.z] = v_at(heads, base + at.x, end, slab * 8u + at.y);
        }
        workgroupBarrier();
        add_products(products, local);
        workgroupBarrier();
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = group.x * TILE;
    let heads = Heads(group.z, group.y, group.y / (params.heads / params.kv_heads));
    let tx = local % 8u;
    let ty = local / 8u;
    let row = first + ty * 4u;
    var sums: array<vec4<f32>, KEPT * 4u>;
    let range = visible_by_tile(heads.batch, first);
    for (var base = range.x / TILE * TILE; base < range.y; base += TILE) {
        var scores: array<vec4<f32>, 4>;
        query_key_products(&scores, heads, first, base, range.y, local);
        var dp: array<vec4<f32>, 4>;
        dout_value_products(&dp, heads, first, base, range.y, local);
        for (var i = 0u; i < 4u; i++) {
            let row_stats = stats_at(heads, row + i);
            let hidden = masked(visible(heads.batch, row + i), base + tx * 4u);
            let score = scores_of(scores[i]);
            let p = select(exp(score - row_stats.x), vec4<f32>(), hidden);
            let slope = vec4<f32>(slope_of(score.x), slope_of(score.y), slope_of(score.z), slope_of(score.w));
            weights[(i * 8u + ty) * STRIDE + tx] = p * (dp[i] - row_stats.y) * slope;
        }
        for (var slab = 0u; slab < SLABS; slab++) {
            for (var n = 0u; n < 4u; n++) {
                let at = copied(local, n);
                other[at.z] = k_at(heads, base + at.x, range.y, slab * 8u + at.y);
            }
            workgroupBarrier();
            add_weighted(&sums, slab, local);
            workgroupBarrier();
        }
    }
    for (var i = 0u; i < 4u; i++) {
        for (var slab = 0u; slab < SLABS; slab++) {
            let column = slab * 8u + tx;
            if (row + i < params.queries && column < params.head_dim / 4u) {
                dq[query_base(heads.batch, row + i, heads.query) + column] = sums[slab * 4u + i];
            }
        }
    }
}
