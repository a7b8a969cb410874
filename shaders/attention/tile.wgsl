// Attention forward, flash style: 32 queries of one head per workgroup, tiles of 32 keys.
// S = scale * q k^T (soft-capped) in slabs of 32 dimensions; online softmax (m: row maximum, l: row sum of
// P = exp(S - m));
// out = out * exp(m_old - m_new) + P v; at the end out / l and lse = m + log(l).
// Grid (ceil(queries / 32), heads, batch).
// PAGED: queries of several sequences may follow each other, those of each side by side. A tile takes the keys of one
// sequence after the other. Nothing is kept for a reverse pass.
#import "include/attention_tile.wgsl"
#import "include/attention_products.wgsl" NAME=query_key_products OWN=q_at OWN_END=params.queries OTHER=k_at OTHER_END=end
#import "include/attention_sums.wgsl" NAME=add_values OTHER=v_at OTHER_END=end

#ifdef PAGED
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
#else
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;
#endif

// One vec4 per thread: a value for each of its four rows.
var<workgroup> by_rows: array<vec4<f32>, 64>;

// Running softmax of a thread's four rows.
struct Softmax {
    m: vec4<f32>,
    // Over the thread's own columns; added up over tx at the end.
    l: vec4<f32>,
}

// Row maxima of the tile, over all columns.
fn row_peaks(scores: ptr<function, array<vec4<f32>, 4>>, thread: u32) -> vec4<f32> {
    var peak = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        let row = (*scores)[i];
        peak[i] = max(max(row.x, row.y), max(row.z, row.w));
    }
    by_rows[thread] = peak;
    workgroupBarrier();
    for (var n = 0u; n < 8u; n++) {
        peak = max(peak, by_rows[thread / 8u * 8u + n]);
    }
    return peak;
}

// Puts P of the tile into `weights`, carries the softmax on and rescales what was summed before.
fn soften(
    softmax: ptr<function, Softmax>,
    sums: ptr<function, array<vec4<f32>, KEPT * 4u>>,
    scores: ptr<function, array<vec4<f32>, 4>>,
    thread: u32,
) {
    let m = max((*softmax).m, row_peaks(scores, thread));
    let factor = exp((*softmax).m - m);
    var l = (*softmax).l * factor;
    for (var i = 0u; i < 4u; i++) {
        // A row that has seen no key yet has m = LOWEST, where exp would give 1 for masked keys.
        let score = (*scores)[i];
        let p = select(exp(score - m[i]), vec4<f32>(), score == vec4<f32>(LOWEST));
        l[i] += p.x + p.y + p.z + p.w;
        weights[(i * 8u + thread / 8u) * STRIDE + thread % 8u] = p;
        for (var slab = 0u; slab < SLABS; slab++) {
            (*sums)[slab * 4u + i] *= factor[i];
        }
    }
    *softmax = Softmax(m, l);
}

fn store(
    softmax: Softmax,
    sums: ptr<function, array<vec4<f32>, KEPT * 4u>>,
    heads: Heads,
    query: u32,
    i: u32,
    tx: u32,
) {
    if query >= params.queries {
        return;
    }
    // A sum that is no number is not none: it has to reach the result.
    let none = softmax.l[i] == 0.0;
    let inverse = select(1.0 / softmax.l[i], 0.0, none);
    for (var slab = 0u; slab < SLABS; slab++) {
        let column = slab * 8u + tx;
        if column < params.head_dim / 4u {
            out[query_base(heads.sequence, query, heads.query) + column] = (*sums)[slab * 4u + i] * inverse;
        }
    }
#ifndef PAGED
    if tx == 0u {
        let row = (heads.sequence * params.queries + query) * params.heads + heads.query;
        stats[2u * row] = select(softmax.m[i] + log(softmax.l[i]), 0.0, none);
    }
#endif
}

// The queries from `first` on and below `end` that are of one sequence: that one, and the first query that is not.
fn part_of_tile(batch: u32, first: u32, end: u32) -> vec2<u32> {
#ifdef PAGED
    let sequence = sequence_of(first);
    var next = first + 1u;
    while next < end && sequence_of(next) == sequence {
        next++;
    }
    return vec2<u32>(sequence, next);
#else
    return vec2<u32>(batch, end);
#endif
}

// Takes the keys of one sequence, which `heads` names, into account.
fn add_keys(
    softmax: ptr<function, Softmax>,
    sums: ptr<function, array<vec4<f32>, KEPT * 4u>>,
    heads: Heads,
    first: u32,
    range: vec2<u32>,
    thread: u32,
) {
    let tx = thread % 8u;
    let row = first + thread / 8u * 4u;
    for (var base = range.x / TILE * TILE; base < range.y; base += TILE) {
        var scores: array<vec4<f32>, 4>;
        query_key_products(&scores, heads, first, base, range.y, thread);
        for (var i = 0u; i < 4u; i++) {
            let hidden = masked(visible(heads.sequence, row + i), base + tx * 4u);
            scores[i] = select(scores_of(scores[i]), vec4<f32>(LOWEST), hidden);
        }
        soften(softmax, sums, &scores, thread);
        add_values(sums, heads, base, range.y, 0u, thread);
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = workgroup.x * TILE;
    let end = min(first + TILE, params.queries);
    let key_head = workgroup.y / (params.heads / params.kv_heads);
    let tx = thread % 8u;
    var sums: array<vec4<f32>, KEPT * 4u>;
    var softmax = Softmax(vec4<f32>(LOWEST), vec4<f32>());
    for (var query = first; query < end;) {
        let part = part_of_tile(workgroup.z, query, end);
        let range = visible_by_all(part.x, query, part.y);
        add_keys(&softmax, &sums, Heads(part.x, workgroup.y, key_head), first, range, thread);
        query = part.y;
    }
    by_rows[thread] = softmax.l;
    workgroupBarrier();
    softmax.l = vec4<f32>();
    for (var n = 0u; n < 8u; n++) {
        softmax.l += by_rows[thread / 8u * 8u + n];
    }
    for (var i = 0u; i < 4u; i++) {
        store(softmax, &sums, Heads(workgroup.z, workgroup.y, key_head), first + thread / 8u * 4u + i, i, tx);
    }
}
