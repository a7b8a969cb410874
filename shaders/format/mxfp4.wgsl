// Loader of MXFP4: planes as those of Q4_0, scales in bfloat16; codes are floats of four bits.
#import "include/levels.wgsl"
#import "include/weight.wgsl" APART=16u

@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let q = weight[row * per_row * 8u + octet];
    let scales = weight[(WEIGHT_ROWS * 8u + row) * per_row + octet / 8u];
    let d = bitcast<f32>(select(scales << 16u, scales & 0xffff0000u, (octet & 4u) != 0u));
    return Octet(
        float_levels(unpack4xU8(q & 0x0f0f0f0fu)) * d,
        float_levels(unpack4xU8((q >> 4u) & 0x0f0f0f0fu)) * d,
    );
}
