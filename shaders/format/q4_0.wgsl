// Loader of Q4_0: an octet is one word of the quants plane (ggml's nibble order) and half a word of the scales plane.
#import "include/weight.wgsl" APART=16u

@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let q = weight[row * per_row * 8u + octet];
    let scales = unpack2x16float(weight[(WEIGHT_ROWS * 8u + row) * per_row + octet / 8u]);
    let d = select(scales.x, scales.y, (octet & 4u) != 0u);
    return Octet(
        (vec4<f32>(unpack4xU8(q & 0x0f0f0f0fu)) - 8.0) * d,
        (vec4<f32>(unpack4xU8((q >> 4u) & 0x0f0f0f0fu)) - 8.0) * d,
    );
}
