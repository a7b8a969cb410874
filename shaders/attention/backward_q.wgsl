// Gradient of the queries: 32 queries of one head per workgroup, tiles of 32 keys.
// P = exp(scale * q k^T - lse), dS = P * (dout v^T - delta) * scale, dq = dS k.
// Grid (ceil(queries / 32), heads, batch).
#import "include/attention_backward.wgsl"

@group(0) @binding(6) var<storage, read_write> dq: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = group.x * TILE;
    let head = group.y;
    let batch = group.z;
    let kv_head = head / (params.heads / params.kv_heads);
    let tx = local % 8u;
    let ty = local / 8u;
    var seen: array<vec2<u32>, 4>;
    var row_stats: array<vec2<f32>, 4>;
    for (var i = 0u; i < 4u; i++) {
        seen[i] = visible(batch, first + ty * 4u + i);
        row_stats[i] = stats_at(batch, head, first + ty * 4u + i);
    }
    var sums: array<vec4<f32>, SLABS * 4u>;
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
        var dp: array<vec4<f32>, 4>;
        for (var slab = 0u; slab < SLABS; slab++) {
            for (var n = 0u; n < 4u; n++) {
                let at = copied(local, n);
                own[at.z] = dout_at(batch, head, first + at.x, slab * 8u + at.y);
                other[at.z] = v_at(batch, kv_head, base + at.x, range.y, slab * 8u + at.y);
            }
            workgroupBarrier();
            add_products(&dp, local);
            workgroupBarrier();
        }
        let keys = vec4<u32>(0u, 1u, 2u, 3u) + base + tx * 4u;
        for (var i = 0u; i < 4u; i++) {
            let masked = (keys < vec4<u32>(seen[i].x)) | (keys >= vec4<u32>(seen[i].y));
            let p = select(exp(scores[i] * params.scale - row_stats[i].x), vec4<f32>(), masked);
            weights[(i * 8u + ty) * STRIDE + tx] = p * (dp[i] - row_stats[i].y) * params.scale;
        }
        for (var slab = 0u; slab < SLABS; slab++) {
            for (var n = 0u; n < 4u; n++) {
                let at = copied(local, n);
                other[at.z] = k_at(batch, kv_head, base + at.x, range.y, slab * 8u + at.y);
            }
            workgroupBarrier();
            add_weighted(&sums, slab, local);
            workgroupBarrier();
        }
    }
    for (var i = 0u; i < 4u; i++) {
        let query = first + ty * 4u + i;
        for (var slab = 0u; slab < SLABS; slab++) {
            let column = slab * 8u + tx;
            if (query < params.queries && column < params.head_dim / 4u) {
                dq[query_base(batch, query, head) + column] = sums[slab * 4u + i];
            }
        }
    }
}
