// Loader of Q6_K: an octet is one word of lower bits and half the bits of a word of upper bits, both in the quants
// plane. The scales plane has five words per block: a scale per two octets, then d.
#import "include/weight.wgsl" APART=4u

@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let slab = (row * per_row + octet / 8u) * 12u;
    let q = weight[slab + octet % 8u];
    let upper = weight[slab + 8u + (octet % 8u) / 2u] >> (octet % 2u * 4u);
    // Four slabs are a block.
    let block = WEIGHT_ROWS * per_row * 12u + (row * (per_row / 4u) + octet / 32u) * 5u;
    let scales = bitcast<i32>(weight[block + (octet / 8u) % 4u]);
    let scale = unpack2x16float(weight[block + 4u]).x * f32(extractBits(scales, (octet / 2u) % 4u * 8u, 8u));
    let low = (q & 0x0f0f0f0fu) | ((upper & 0x03030303u) << 4u);
    let high = ((q >> 4u) & 0x0f0f0f0fu) | (((upper >> 2u) & 0x03030303u) << 4u);
    return Octet(
        (vec4<f32>(unpack4xU8(low)) - 32.0) * scale,
        (vec4<f32>(unpack4xU8(high)) - 32.0) * scale,
    );
}
