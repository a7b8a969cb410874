// Uniform of the products of updates on experts.
struct Params {
    pairs: u32,
    experts: u32,
    slots: u32,
    n: u32,
    k: u32,
    transposed: u32,
    accumulate: u32,
    alpha: f32,
}

@group(1) @binding(0) var<uniform> params: Params;
