// Loader of Q3_K: an octet is half the bits of a word of the quants plane (the other half is 64 columns away) and two
// bits of each byte of a word of third bits, which follow in the same plane. The scales plane has a vector per block:
// sixteen 6-bit scales, then d.
#import "include/weight.wgsl" APART=32u

@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

// The scale of sub-block j: lower four bits in the first two words, upper two in the third.
fn sub_scale(header: vec4<u32>, j: u32) -> f32 {
    let low = extractBits(select(header.x, header.y, (j & 4u) != 0u), (j & 3u) * 8u + (j / 8u) * 4u, 4u);
    let high = extractBits(header.z, (j & 3u) * 8u + (j / 4u) * 2u, 2u);
    return f32(low | (high << 4u)) - 32.0;
}

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    // Four slabs are a block: four vectors of lower bits, two of third bits.
    let block = row * (per_row / 4u) + octet / 32u;
    let word = octet % 8u;
    let slab = (octet / 8u) % 4u;
    let q = weight[block * 6u + (slab / 2u) * 2u + word / 4u][word % 4u] >> ((slab & 1u) * 4u);
    let third = weight[block * 6u + 4u + word / 4u][word % 4u] >> (slab * 2u);
    let header = weight[WEIGHT_ROWS * (per_row / 4u) * 6u + block];
    let d = unpack2x16float(header.w).x;
    let j = slab * 4u + word / 4u;
    let low = (q & 0x03030303u) | ((third & 0x01010101u) << 2u);
    let high = ((q >> 2u) & 0x03030303u) | (((third >> 1u) & 0x01010101u) << 2u);
    return Octet(
        (vec4<f32>(unpack4xU8(low)) - 4.0) * (d * sub_scale(header, j)),
        (vec4<f32>(unpack4xU8(high)) - 4.0) * (d * sub_scale(header, j + 2u)),
    );
}
