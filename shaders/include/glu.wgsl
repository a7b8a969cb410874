// Uniform of the gated linear unit's kernels.
struct Params {
    len: u32,
    activation: u32,
    pad0: u32,
    pad1: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
