// Loader of Q2_K: an octet is half the bits of a word of the quants plane; the other half is 64 columns away. The
// scales plane has five words per block: scale and minimum of a sub-block in a byte, then d and dmin.
#import "include/weight.wgsl" APART=32u

@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let q = weight[row * per_row * 4u + (octet / 16u) * 8u + octet % 8u] >> ((octet & 8u) / 2u);
    // Four slabs are a block; a slab has one word of scales.
    let block = WEIGHT_ROWS * per_row * 4u + (row * (per_row / 4u) + octet / 32u) * 5u;
    let scales = weight[block + (octet / 8u) % 4u] >> ((octet & 4u) * 2u);
    let d = unpack2x16float(weight[block + 4u]);
    let low = vec2<f32>(vec2<u32>(scales & 15u, (scales >> 4u) & 15u)) * d;
    let high = vec2<f32>(vec2<u32>((scales >> 16u) & 15u, (scales >> 20u) & 15u)) * d;
    return Octet(
        vec4<f32>(unpack4xU8(q & 0x03030303u)) * low.x - low.y,
        vec4<f32>(unpack4xU8((q >> 2u) & 0x03030303u)) * high.x - high.y,
    );
}
