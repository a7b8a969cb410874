// Gradients of keys and values: 32 keys of one key/value head per workgroup, which walks over the query heads of its
// group and over tiles of 32 queries in a fixed order and writes dk and dv once.
// P and dS as in backward_q, here transposed (own rows are keys): dv = P^T dout, dk = dS^T q.
// Grid (ceil(keys / 32) * PARTS, kv_heads, batch): each part computes all products, and some slabs of dk and dv.
#import "include/attention_backward.wgsl"
#import "include/attention_products.wgsl" NAME=key_query_products OWN=k_at OWN_END=params.queries OTHER=q_at OTHER_END=end
#import "include/attention_products.wgsl" NAME=value_dout_products OWN=v_at OWN_END=params.queries OTHER=dout_at OTHER_END=end
#import "include/attention_sums.wgsl" NAME=add_queries OTHER=q_at OTHER_END=end
#import "include/attention_sums.wgsl" NAME=add_douts OTHER=dout_at OTHER_END=end

@group(0) @binding(6) var<storage, read_write> dk: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> dv: array<vec4<f32>>;

// Query tiles that causality and the window allow to see keys from `first` on: first query, one past the last.
fn queries_that_see(first: u32) -> vec2<u32> {
    var end = params.queries;
    if params.window != 0u {
        end = min(end, first + TILE - 1u + params.window);
    }
    return vec2<u32>(first / TILE * TILE, end);
}

// Turns the scores into P^T and dP^T into dS^T, column by column: column j is query base + tx*4 + j.
fn to_gradients(
    scores: ptr<function, array<vec4<f32>, 4>>,
    dp: ptr<function, array<vec4<f32>, 4>>,
    heads: Heads,
    first: u32,
    base: u32,
    thread: u32,
) {
    for (var j = 0u; j < 4u; j++) {
        let query = base + thread % 8u * 4u + j;
        let seen = visible(heads.sequence, query);
        let column = stats_at(heads, query);
        for (var i = 0u; i < 4u; i++) {
            let key = first + thread / 8u * 4u + i;
            let hidden = key < seen.x || key >= seen.y;
            let score = score_of((*scores)[i][j]);
            let p = select(exp(score - column.x), 0.0, hidden);
            (*scores)[i][j] = p;
            (*dp)[i][j] = p * ((*dp)[i][j] - column.y) * slope_of(score);
        }
    }
}

fn store_weights(matrix: ptr<function, array<vec4<f32>, 4>>, thread: u32) {
    for (var i = 0u; i < 4u; i++) {
        weights[(i * 8u + thread / 8u) * STRIDE + thread % 8u] = (*matrix)[i];
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = workgroup.x / PARTS * TILE;
    let first_slab = workgroup.x % PARTS * KEPT;
    let group_heads = params.heads / params.kv_heads;
    var dk_sums: array<vec4<f32>, KEPT * 4u>;
    var dv_sums: array<vec4<f32>, KEPT * 4u>;
    let queries = queries_that_see(first);
    for (var head = workgroup.y * group_heads; head < (workgroup.y + 1u) * group_heads; head++) {
        let heads = Heads(workgroup.z, head, workgroup.y);
        for (var base = queries.x; base < queries.y; base += TILE) {
            let range = visible_by_all(workgroup.z, base, min(base + TILE, params.queries));
            if range.x >= first + TILE || range.y <= first {
                continue;
            }
            var scores: array<vec4<f32>, 4>;
            key_query_products(&scores, heads, first, base, params.queries, thread);
            var dp: array<vec4<f32>, 4>;
            value_dout_products(&dp, heads, first, base, params.queries, thread);
            to_gradients(&scores, &dp, heads, first, base, thread);
            store_weights(&scores, thread);
            add_douts(&dv_sums, heads, base, params.queries, first_slab, thread);
            store_weights(&dp, thread);
            add_queries(&dk_sums, heads, base, params.queries, first_slab, thread);
        }
    }
    for (var i = 0u; i < 4u; i++) {
        let key = first + thread / 8u * 4u + i;
        for (var slab = 0u; slab < KEPT; slab++) {
            let column = (first_slab + slab) * 8u + thread % 8u;
            if key < params.queries && column < params.head_dim / 4u {
                dk[key_base(workgroup.z, key, workgroup.y) + column] = dk_sums[slab * 4u + i];
                dv[key_base(workgroup.z, key, workgroup.y) + column] = dv_sums[slab * 4u + i];
            }
        }
    }
}
