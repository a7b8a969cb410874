// Attention forward, flash style: 32 queries of one head per workgroup, tiles of 32 keys.
// S = scale * q k^T in slabs of 32 dimensions; online softmax (m: row maximum, l: row sum of P = exp(S - m));
// out = out * exp(m_old - m_new) + P v; at the end out / l and lse = m + log(l).
// Grid (ceil(queries / 32), heads, batch).
#import "include/attention_tile.wgsl"

@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;

// One vec4 per thread: a value for each of its four rows.
var<workgroup> by_rows: array<vec4<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = group.x * TILE;
    let head = group.y;
    let batch = group.z;
    let kv_head = head / (params.heads / params.kv_heads);
    let tx = local % 8u;
    let ty = local / 8u;
    var seen: array<vec2<u32>, 4>;
    for (var i = 0u; i < 4u; i++) {
        seen[i] = visible(batch, first + ty * 4u + i);
    }
    var sums: array<vec4<f32>, SLABS * 4u>;
    var m = vec4<f32>(LOWEST);
    // Over the thread's own columns; added up over tx at the end.
    var l = vec4<f32>();
    let range = visible_by_tile(batch, first);
    for (var base = range.x / TILE * TILE; base < range.y; base += TILE) {
        var scores: array<vec4<f32>, 4>;
        for (var slab = 0u; slab < SLABS; slab++) {
            for (var n = 0u; n < 4u; n++) {
                let at = copied(local, n);
                own[at.z] = q_at(batch, head, first + at.x, slab * 8u + at.y);
                other[at.z] = k_at(batch, kv_head, base + at.x, range.y, slab * 8u + at.y);
            }
            workgroupBarrier();
            add_products(&scores, local);
            workgroupBarrier();
        }
        let keys = vec4<u32>(0u, 1u, 2u, 3u) + base + tx * 4u;
        var peak = vec4<f32>(LOWEST);
        for (var i = 0u; i < 4u; i++) {
            let masked = (keys < vec4<u32>(seen[i].x)) | (keys >= vec4<u32>(seen[i].y));
            scores[i] = select(scores[i] * params.scale, vec4<f32>(LOWEST), masked);
            peak[i] = max(max(scores[i].x, scores[i].y), max(scores[i].z, scores[i].w));
        }
        by_rows[local] = peak;
        workgroupBarrier();
        for (var n = 0u; n < 8u; n++) {
            peak = max(peak, by_rows[ty * 8u + n]);
        }
        let new_m = max(m, peak);
        let factor = exp(m - new_m);
        m = new_m;
        l *= factor;
        for (var i = 0u; i < 4u; i++) {
            // A row that has seen no key yet has m = LOWEST, where exp would give 1 for masked keys.
            let p = select(exp(scores[i] - m[i]), vec4<f32>(), scores[i] == vec4<f32>(LOWEST));
            l[i] += p.x + p.y + p.z + p.w;
            weights[(i * 8u + ty) * STRIDE + tx] = p;
            for (var slab = 0u; slab < SLABS; slab++) {
                sums[slab * 4u + i] *= factor[i];
            }
        }
        for (var slab = 0u; slab < SLABS; slab++) {
            for (var n = 0u; n < 4u; n++) {
                let at = copied(local, n);
                other[at.z] = v_at(batch, kv_head, base + at.x, range.y, slab * 8u + at.y);
            }
            workgroupBarrier();
            add_weighted(&sums, slab, local);
            workgroupBarrier();
        }
    }
    by_rows[local] = l;
    workgroupBarrier();
    l = vec4<f32>();
    for (var n = 0u; n < 8u; n++) {
        l += by_rows[ty * 8u + n];
    }
    for (var i = 0u; i < 4u; i++) {
        let query = first + ty * 4u + i;
        if (query >= params.queries) {
            continue;
        }
        let some = l[i] > 0.0;
        let inverse = select(0.0, 1.0 / l[i], some);
        for (var slab = 0u; slab < SLABS; slab++) {
            let column = slab * 8u + tx;
            if (column < params.head_dim / 4u) {
                out[query_base(batch, query, head) + column] = sums[slab * 4u + i] * inverse;
            }
        }
        if (tx == 0u) {
            let row = (batch * params.queries + query) * params.heads + head;
            stats[2u * row] = select(0.0, m[i] + log(l[i]), some);
        }
    }
}
