// Loader of IQ4_NL: planes as those of Q4_0; codes are indices of 16 levels.
#import "include/weight.wgsl"

@group(0) @binding(1) var<storage, read> weight: array<u32>;

// The levels of four codes: bytes of four constant words, because a constant array would lie in slow private memory.
fn levels(codes: vec4<u32>) -> vec4<f32> {
    let odd = (codes & vec4<u32>(4u)) != vec4<u32>(0u);
    let negative = select(vec4<u32>(0xbfad9881u), vec4<u32>(0xf6eaddcfu), odd);
    let positive = select(vec4<u32>(0x26190d01u), vec4<u32>(0x71594535u), odd);
    let word = select(negative, positive, codes >= vec4<u32>(8u));
    let top = word << ((vec4<u32>(3u) - (codes & vec4<u32>(3u))) * 8u);
    return vec4<f32>(bitcast<vec4<i32>>(top) >> vec4<u32>(24u));
}

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let q = weight[row * per_row * 8u + octet];
    let scales = unpack2x16float(weight[(WEIGHT_ROWS * 8u + row) * per_row + octet / 8u]);
    let d = select(scales.x, scales.y, (octet & 4u) != 0u);
    return Octet(levels(unpack4xU8(q & 0x0f0f0f0fu)) * d, levels(unpack4xU8((q >> 4u) & 0x0f0f0f0fu)) * d);
}

fn octet_columns(octet: u32) -> vec2<u32> {
    let first = (octet / 4u) * 32u + (octet % 4u) * 4u;
    return vec2<u32>(first, first + 16u);
}
