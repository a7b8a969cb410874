// Uniform of the column kernels, and the place of element `i` of the range in the wide matrix.
struct Params {
    rows: u32,
    width: u32,
    start: u32,
    stride: u32,
    accumulate: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(1) @binding(0) var<uniform> params: Params;

fn wide(i: u32) -> u32 {
    return i / params.width * params.stride + params.start + i % params.width;
}
