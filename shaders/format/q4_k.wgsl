// Loader of Q4_K: an octet is one word of the quants plane; the scales plane is the 16-byte headers of the blocks.
#import "include/scale_min.wgsl"
#import "include/weight.wgsl" APART=32u

@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let at = row * per_row * 8u + octet;
    let q = weight[at / 4u][at % 4u];
    // Four slabs are a block; its header is one vector.
    let header = weight[(WEIGHT_ROWS * 8u + row) * (per_row / 4u) + octet / 32u];
    let d = unpack2x16float(header.x);
    let j = ((octet / 8u) & 3u) * 2u;
    let low = scale_min(header, j) * d;
    let high = scale_min(header, j + 1u) * d;
    return Octet(
        vec4<f32>(unpack4xU8(q & 0x0f0f0f0fu)) * low.x - low.y,
        vec4<f32>(unpack4xU8((q >> 4u) & 0x0f0f0f0fu)) * high.x - high.y,
    );
}
