// Loader of Q4_1: an octet is one word of the quants plane (ggml's nibble order) and the word with d and m of its
// block.
#import "include/weight.wgsl" APART=16u

@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let q = weight[row * per_row * 8u + octet];
    let affine = unpack2x16float(weight[(WEIGHT_ROWS * 8u + row * 2u) * per_row + octet / 4u]);
    return Octet(
        vec4<f32>(unpack4xU8(q & 0x0f0f0f0fu)) * affine.x + affine.y,
        vec4<f32>(unpack4xU8((q >> 4u) & 0x0f0f0f0fu)) * affine.x + affine.y,
    );
}
