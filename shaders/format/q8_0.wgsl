// Loader of Q8_0: an octet is two words of the quants plane and half a word of the scales plane.
#import "include/weight.wgsl" APART=4u

@group(0) @binding(1) var<storage, read> weight: array<vec2<u32>>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let q = weight[row * per_row * 8u + octet];
    let at = (WEIGHT_ROWS * 16u + row) * per_row + octet / 8u;
    let scales = unpack2x16float(weight[at / 2u][at % 2u]);
    let d = select(scales.x, scales.y, (octet & 4u) != 0u);
    return Octet(vec4<f32>(unpack4xI8(q.x)) * d, vec4<f32>(unpack4xI8(q.y)) * d);
}
