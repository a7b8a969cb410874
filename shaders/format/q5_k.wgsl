// Loader of Q5_K: an octet is one word of the quants plane and two bits of each byte of a word of fifth bits. The
// scales plane has three vectors per block: its header, then the fifth bits.
#import "include/scale_min.wgsl"
#import "include/weight.wgsl" APART=32u

@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let at = row * per_row * 8u + octet;
    let q = weight[at / 4u][at % 4u];
    // Four slabs are a block.
    let block = WEIGHT_ROWS * per_row * 2u + (row * (per_row / 4u) + octet / 32u) * 3u;
    let header = weight[block];
    let d = unpack2x16float(header.x);
    let j = ((octet / 8u) & 3u) * 2u;
    let low = scale_min(header, j) * d;
    let high = scale_min(header, j + 1u) * d;
    let word = octet % 8u;
    let bits = weight[block + 1u + word / 4u][word % 4u] >> j;
    let low_codes = (q & 0x0f0f0f0fu) | ((bits & 0x01010101u) << 4u);
    let high_codes = ((q >> 4u) & 0x0f0f0f0fu) | (((bits >> 1u) & 0x01010101u) << 4u);
    return Octet(
        vec4<f32>(unpack4xU8(low_codes)) * low.x - low.y,
        vec4<f32>(unpack4xU8(high_codes)) * high.x - high.y,
    );
}
