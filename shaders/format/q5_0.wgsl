// Loader of Q5_0: an octet is one word of the quants plane (ggml's nibble order), half a word with its block's d and
// eight bits of a word with the fifth bits of its block.
#import "include/fifth_bits.wgsl"
#import "include/weight.wgsl" APART=16u

@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let q = weight[row * per_row * 8u + octet];
    let at = (WEIGHT_ROWS * 8u + row * 3u) * per_row + octet / 8u * 3u;
    let block = (octet / 4u) % 2u;
    let scales = unpack2x16float(weight[at]);
    let d = select(scales.x, scales.y, block == 1u);
    let bits = weight[at + 1u + block] >> (octet % 4u * 4u);
    return Octet(
        (vec4<f32>(unpack4xU8((q & 0x0f0f0f0fu) | fifth_bits(bits))) - 16.0) * d,
        (vec4<f32>(unpack4xU8(((q >> 4u) & 0x0f0f0f0fu) | fifth_bits(bits >> 16u))) - 16.0) * d,
    );
}
