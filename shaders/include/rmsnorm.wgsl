// Uniform of the norm's kernels.
struct Params {
    rows: u32,
    width: u32,
    accumulate: u32,
    eps: f32,
}

@group(1) @binding(0) var<uniform> params: Params;
