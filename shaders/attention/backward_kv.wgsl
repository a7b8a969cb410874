// Gradients of keys and values: 32 keys of one key/value head per workgroup, which walks over the query heads of its
// group and over tiles of 32 queries in a fixed order and writes dk and dv once.
// P and dS as in backward_q, here transposed (own rows are keys): dv = P^T dout, dk = dS^T q.
// Grid (ceil(keys / 32), kv_heads, batch).
#import "include/attention_backward.wgsl"

@group(0) @binding(6) var<storage, read_write> dk: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> dv: array<vec4<f32>>;

// Query tiles that causality and the window allow to see keys from `first` on: first query, one behind the last.
fn queries_that_see(first: u32) -> vec2<u32> {
    var begin = 0u;
    if (first > step.past) {
        begin = (first - step.past) / TILE * TILE;
    }
    var end = params.queries;
    if (params.window != 0u) {
        let last_position = first + TILE - 1u + params.window;
        end = min(end, max(last_position, step.past) - step.past);
    }
    return vec2<u32>(begin, end);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = group.x * TILE;
    let kv_head = group.y;
    let batch = group.z;
    let group_heads = params.heads / params.kv_heads;
    let tx = local % 8u;
    let ty = local / 8u;
    var dk_sums: array<vec4<f32>, SLABS * 4u>;
    var dv_sums: array<vec4<f32>, SLABS * 4u>;
    let queries = queries_that_see(first);
    for (var head = kv_head * group_heads; head < (kv_head + 1u) * group_heads; head++) {
        for (var base = queries.x; base < queries.y; base += TILE) {
            let range = visible_by_tile(batch, base);
            if (range.x >= first + TILE || range.y <= first) {
                continue;
            }
            var scores: array<vec4<f32>, 4>;
            for (var slab = 0u; slab < SLABS; slab++) {
                for (var n = 0u; n < 4u; n++) {
                    let at = copied(local, n);
                    own[at.z] = k_at(batch, kv_head, first + at.x, params.keys, slab * 8u + at.y);
                    other[at.z] = q_at(batch, head, base + at.x, slab * 8u + at.y);
                }
                workgroupBarrier();
                add_products(&scores, local);
                workgroupBarrier();
            }
            var dp: array<vec4<f32>, 4>;
            for (var slab = 0u; slab < SLABS; slab++) {
                for (var n = 0u; n < 4u; n++) {
                    let at = copied(local, n);
                    own[at.z] = v_at(batch, kv_head, first + at.x, params.keys, slab * 8u + at.y);
                    other[at.z] = dout_at(batch, head, base + at.x, slab * 8u + at.y);
                }
                workgroupBarrier();
                add_products(&dp, local);
                workgroupBarrier();
            }
            // Now `scores` becomes P^T and `dp` dS^T, column by column: column j is query tx*4 + j.
            for (var j = 0u; j < 4u; j++) {
                let query = base + tx * 4u + j;
                let seen = visible(batch, query);
                let column = stats_at(batch, head, query);
                for (var i = 0u; i < 4u; i++) {
                    let key = first + ty * 4u + i;
                    let masked = key < seen.x || key >= seen.y;
                    let p = select(exp(scores[i][j] * params.scale - column.x), 0.0, masked);
                    scores[i][j] = p;
                    dp[i][j] = p * (dp[i][j] - column.y) * params.scale;
                }
            }
            for (var i = 0u; i < 4u; i++) {
                weights[(i * 8u + ty) * STRIDE + tx] = scores[i];
            }
            for (var slab = 0u; slab < SLABS; slab++) {
                for (var n = 0u; n < 4u; n++) {
                    let at = copied(local, n);
                    other[at.z] = dout_at(batch, head, base + at.x, slab * 8u + at.y);
                }
                workgroupBarrier();
                add_weighted(&dv_sums, slab, local);
                workgroupBarrier();
            }
            for (var i = 0u; i < 4u; i++) {
                weights[(i * 8u + ty) * STRIDE + tx] = dp[i];
            }
            for (var slab = 0u; slab < SLABS; slab++) {
                for (var n = 0u; n < 4u; n++) {
                    let at = copied(local, n);
                    other[at.z] = q_at(batch, head, base + at.x, slab * 8u + at.y);
                }
                workgroupBarrier();
                add_weighted(&dk_sums, slab, local);
                workgroupBarrier();
            }
        }
    }
    for (var i = 0u; i < 4u; i++) {
        let key = first + ty * 4u + i;
        for (var slab = 0u; slab < SLABS; slab++) {
            let column = slab * 8u + tx;
            if (key < params.keys && column < params.head_dim / 4u) {
                dk[key_base(batch, key, kv_head) + column] = dk_sums[slab * 4u + i];
                dv[key_base(batch, key, kv_head) + column] = dv_sums[slab * 4u + i];
            }
        }
    }
}
