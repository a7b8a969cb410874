// Gradients of keys and values: 32 keys of one key/value head per workgroup, which walks over the query heads of its
// group and over tiles of 32 queries in a fixed order and writes dk and dv once.
// P and dS as in backward_q, here transposed (own rows are keys): dv = P^T dout, dk = dS^T q.
// Grid (ceil(keys / 32) * PARTS, kv_heads, batch): each part computes all products, and some slabs of dk and dv.
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

// products[i][j] = key first + ty*4 + i . query base + tx*4 + j.
fn key_query_products(
    products: ptr<function, array<vec4<f32>, 4>>,
    heads: Heads,
    first: u32,
    base: u32,
    local: u32,
) {
    for (var slab = 0u; slab < SLABS; slab++) {
        for (var n = 0u; n < 4u; n++) {
            let at = copied(local, n);
            own[at.z] = k_at(heads, first + at.x, params.keys, slab * 8u + at.y);
            other[at.z] = q_at(heads, base + at.x, slab * 8u + at.y);
        }
        workgroupBarrier();
        add_products(products, local);
        workgroupBarrier();
    }
}

// products[i][j] = value first + ty*4 + i . dout of query base + tx*4 + j.
fn value_dout_products(
    products: ptr<function, array<vec4<f32>, 4>>,
    heads: Heads,
    first: u32,
    base: u32,
    local: u32,
) {
    for (var slab = 0u; slab < SLABS; slab++) {
        for (var n = 0u; n < 4u; n++) {
            let at = copied(local, n);
            own[at.z] = v_at(heads, first + at.x, params.keys, slab * 8u + at.y);
            other[at.z] = dout_at(heads, base + at.x, slab * 8u + at.y);
        }
        workgroupBarrier();
        add_products(products, local);
        workgroupBarrier();
    }
}

// Turns the scores into P^T and dP^T into dS^T, column by column: column j is query base + tx*4 + j.
fn to_gradients(
    scores: ptr<function, array<vec4<f32>, 4>>,
    dp: ptr<function, array<vec4<f32>, 4>>,
    heads: Heads,
    first: u32,
    base: u32,
    local: u32,
) {
    for (var j = 0u; j < 4u; j++) {
        let query = base + local % 8u * 4u + j;
        let seen = visible(heads.batch, query);
        let column = stats_at(heads, query);
        for (var i = 0u; i < 4u; i++) {
            let key = first + local / 8u * 4u + i;
            let hidden = key < seen.x || key >= seen.y;
            let score = score_of((*scores)[i][j]);
            let p = select(exp(score - column.x), 0.0, hidden);
            (*scores)[i][j] = p;
            (*dp)[i][j] = p * ((*dp)[i][j] - column.y) * slope_of(score);
        }
    }
}

fn store_weights(matrix: ptr<function, array<vec4<f32>, 4>>, local: u32) {
    for (var i = 0u; i < 4u; i++) {
        weights[(i * 8u + local / 8u) * STRIDE + local % 8u] = (*matrix)[i];
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = group.x / PARTS * TILE;
    let first_slab = group.x % PARTS * KEPT;
    let group_heads = params.heads / params.kv_heads;
    var dk_sums: array<vec4<f32>, KEPT * 4u>;
    var dv_sums: array<vec4<f32>, KEPT * 4u>;
    let queries = queries_that_see(first);
    for (var head = group.y * group_heads; head < (group.y + 1u) * group_heads; head++) {
        let heads = Heads(group.z, head, group.y);
        for (var base = queries.x; base < queries.y; base += TILE) {
            let range = visible_by_tile(group.z, base);
            if (range.x >= first + TILE || range.y <= first) {
                continue;
            }
            var scores: array<vec4<f32>, 4>;
            key_query_products(&scores, heads, first, base, local);
            var dp: array<vec4<f32>, 4>;
            value_dout_products(&dp, heads, first, base, local);
            to_gradients(&scores, &dp, heads, first, base, local);
            store_weights(&scores, local);
            for (var slab = 0u; slab < KEPT; slab++) {
                for (var n = 0u; n < 4u; n++) {
                    let at = copied(local, n);
                    other[at.z] = dout_at(heads, base + at.x, (first_slab + slab) * 8u + at.y);
                }
                workgroupBarrier();
                add_weighted(&dv_sums, slab, local);
                workgroupBarrier();
            }
            store_weights(&dp, local);
            for (var slab = 0u; slab < KEPT; slab++) {
                for (var n = 0u; n < 4u; n++) {
                    let at = copied(local, n);
                    other[at.z] = q_at(heads, base + at.x, (first_slab + slab) * 8u + at.y);
                }
                workgroupBarrier();
                add_weighted(&dk_sums, slab, local);
                workgroupBarrier();
            }
        }
    }
    for (var i = 0u; i < 4u; i++) {
        let key = first + local / 8u * 4u + i;
        for (var slab = 0u; slab < KEPT; slab++) {
            let column = (first_slab + slab) * 8u + local % 8u;
            if (key < params.keys && column < params.head_dim / 4u) {
                dk[key_base(group.z, key, group.y) + column] = dk_sums[slab * 4u + i];
                dv[key_base(group.z, key, group.y) + column] = dv_sums[slab * 4u + i];
            }
        }
    }
}
