// Uniform of the kernels that scale columns.
struct Params {
    rows: u32,
    width: u32,
    strength: f32,
    accumulate: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
