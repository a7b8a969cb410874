// Tile products of the attention kernels. A workgroup of 64 threads, 8 rows (ty) by 8 columns (tx), owns 32 rows
// (queries or keys) and walks over tiles of 32 others. Thread (tx, ty) works on own rows ty*4 + i and others tx*4 + j.
//
// Tiles hold 32 rows by 8 vec4 (a slab of 32 dimensions), padded to 9. Row n lies in slot (n % 4) * 8 + n / 4, so
// that the 8 rows which 8 threads read at once lie side by side: no bank conflicts.
#import "include/attention.wgsl"

const TILE = 32u;
const STRIDE = 9u;
// Slabs of 32 dimensions in a head, padded to the variant's HEAD_DIM.
const SLABS = HEAD_DIM / 32u;
#ifndef PARTS
#define PARTS 1u
#endif
// Slabs of which a workgroup keeps sums. In several parts where the registers of a thread do not hold them all.
const KEPT = SLABS / PARTS;

// Which sequence and heads a workgroup works on.
struct Heads {
    sequence: u32,
    query: u32,
    key: u32,
}

var<workgroup> own: array<vec4<f32>, 288>;
var<workgroup> other: array<vec4<f32>, 288>;
// A 32 x 32 matrix: own row in a slot as above, others in natural order along the vec4s.
var<workgroup> weights: array<vec4<f32>, 288>;

// The element of a tile that `thread` copies in round `n`: x = row in the tile, y = vec4 column in the slab,
// z = where it goes.
fn copied(thread: u32, n: u32) -> vec3<u32> {
    let index = thread + n * 64u;
    let slot = index / 8u;
    let column = index % 8u;
    return vec3<u32>((slot % 8u) * 4u + slot / 8u, column, slot * STRIDE + column);
}

// Rows of heads, zeros at and past `end`: rows of a cache past the last key that counts may hold anything, even NaN.
fn q_at(heads: Heads, query: u32, end: u32, column: u32) -> vec4<f32> {
    if query < end && column < params.head_dim / 4u {
        return q[query_base(heads.sequence, query, heads.query) + column];
    }
    return vec4<f32>();
}

fn k_at(heads: Heads, key: u32, end: u32, column: u32) -> vec4<f32> {
    if key < end && column < params.head_dim / 4u {
        return k[key_base(heads.sequence, key, heads.key) + column];
    }
    return vec4<f32>();
}

fn v_at(heads: Heads, key: u32, end: u32, column: u32) -> vec4<f32> {
    if key < end && column < params.head_dim / 4u {
        return v[key_base(heads.sequence, key, heads.key) + column];
    }
    return vec4<f32>();
}

// products[i][j] += own row i . other row j over one slab.
fn add_products(products: ptr<function, array<vec4<f32>, 4>>, thread: u32) {
    let own_slot = thread / 8u;
    let other_slot = thread % 8u;
    for (var n = 0u; n < 8u; n++) {
        let b0 = other[other_slot * STRIDE + n];
        let b1 = other[(other_slot + 8u) * STRIDE + n];
        let b2 = other[(other_slot + 16u) * STRIDE + n];
        let b3 = other[(other_slot + 24u) * STRIDE + n];
        for (var i = 0u; i < 4u; i++) {
            let a = own[(own_slot + i * 8u) * STRIDE + n];
            (*products)[i] += vec4<f32>(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3));
        }
    }
}

// sums[slab][i] (slab of the kept ones) += sum over others of weights[own row i][other] * other row, in columns tx of
// the slab.
fn add_weighted(sums: ptr<function, array<vec4<f32>, KEPT * 4u>>, slab: u32, thread: u32) {
    let own_slot = thread / 8u;
    let column = thread % 8u;
    for (var n = 0u; n < 8u; n++) {
        let b0 = other[n * STRIDE + column];
        let b1 = other[(n + 8u) * STRIDE + column];
        let b2 = other[(n + 16u) * STRIDE + column];
        let b3 = other[(n + 24u) * STRIDE + column];
        for (var i = 0u; i < 4u; i++) {
            let w = weights[(own_slot + i * 8u) * STRIDE + n];
            (*sums)[slab * 4u + i] += w.x * b0 + w.y * b1 + w.z * b2 + w.w * b3;
        }
    }
}

// Whether the own row that sees keys `seen` may not look at each of the four keys from `key` on.
fn masked(seen: vec2<u32>, key: u32) -> vec4<bool> {
    let keys = vec4<u32>(0u, 1u, 2u, 3u) + key;
    return (keys < vec4<u32>(seen.x)) | (keys >= vec4<u32>(seen.y));
}

// Smallest first and largest end of the keys that the queries from `first` on and below `end` see.
fn visible_by_all(sequence: u32, first: u32, end: u32) -> vec2<u32> {
    var keys = vec2<u32>(0xffffffffu, 0u);
    for (var query = first; query < end; query++) {
        let seen = visible(sequence, query);
        if seen.x < seen.y {
            keys = vec2<u32>(min(keys.x, seen.x), max(keys.y, seen.y));
        }
    }
    return keys;
}
