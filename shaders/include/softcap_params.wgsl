// Uniform of the soft cap's kernels.
struct Params {
    len: u32,
    cap: f32,
    pad0: u32,
    pad1: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
