// Uniform of the row kernels, and the entry of `rows` that means no row.
struct Params {
    count: u32,
    width: u32,
    offset: u32,
    pad0: u32,
}

const NONE = 0xffffffffu;

@group(1) @binding(0) var<uniform> params: Params;
