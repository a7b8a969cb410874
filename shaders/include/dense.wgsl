// Uniform, operands and result of all dense products.
struct Params {
    m: u32,
    n: u32,
    k: u32,
    a_row: u32,
    a_col: u32,
    b_row: u32,
    b_col: u32,
    accumulate: u32,
    alpha: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

fn left(i: u32, k: u32) -> f32 {
    return a[i * params.a_row + k * params.a_col];
}

fn right(k: u32, j: u32) -> f32 {
    return b[k * params.b_row + j * params.b_col];
}

fn store(i: u32, j: u32, sum: f32) {
    let out = i * params.n + j;
    c[out] = select(0.0, c[out], params.accumulate != 0u) + params.alpha * sum;
}
