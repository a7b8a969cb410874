// Loader of IQ4_NL: planes as those of Q4_0; codes are indices of 16 levels.
#import "include/levels.wgsl"
#import "include/weight.wgsl" APART=16u

@group(0) @binding(1) var<storage, read> weight: array<u32>;

fn load8(row: u32, octet: u32) -> Octet {
    let per_row = slabs();
    let q = weight[row * per_row * 8u + octet];
    let scales = unpack2x16float(weight[(WEIGHT_ROWS * 8u + row) * per_row + octet / 8u]);
    let d = select(scales.x, scales.y, (octet & 4u) != 0u);
    return Octet(
        uneven_levels(unpack4xU8(q & 0x0f0f0f0fu)) * d,
        uneven_levels(unpack4xU8((q >> 4u) & 0x0f0f0f0fu)) * d,
    );
}
