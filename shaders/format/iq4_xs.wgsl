// Loader of IQ4_XS: an octet is one word of the quants plane, codes are indices of IQ4_NL's levels. The scales plane is
// the 8-byte headers of the blocks: d and the upper bits of the scales, then their lower bits.
#import "include/levels.wgsl"
#import "include/weight.wgsl" APART=16u

@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let at = row * per_row * 8u + octet;
    let q = weight[at / 2u][at % 2u];
    // Four slabs are a block; its header is one vector.
    let header = weight[WEIGHT_ROWS * per_row * 4u + row * (per_row / 4u) + octet / 32u];
    let j = (octet / 4u) % 8u;
    let scale = extractBits(header.y, j * 4u, 4u) | (extractBits(header.x, 16u + j * 2u, 2u) << 4u);
    let d = unpack2x16float(header.x).x * (f32(scale) - 32.0);
    return Octet(
        uneven_levels(unpack4xU8(q & 0x0f0f0f0fu)) * d,
        uneven_levels(unpack4xU8((q >> 4u) & 0x0f0f0f0fu)) * d,
    );
}
