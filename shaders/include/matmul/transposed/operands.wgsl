// dy and dx of the transposed products dx = dy W.
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;

fn gradient(owner: u32, row: u32) -> f32 {
    if owner != NONE && row < row_range().y {
        return dy[owner * params.stride + y_column(row)];
    }
    return 0.0;
}

// Gradients of four rows of the weight; of rows past the end they are zeros.
fn gradients(owner: u32, row: u32) -> vec4<f32> {
    return vec4<f32>(
        gradient(owner, row),
        gradient(owner, row + 1u),
        gradient(owner, row + 2u),
        gradient(owner, row + 3u),
    );
}

fn store(to: u32, column: u32, sum: vec4<f32>) {
    if to != NONE && column < params.inner {
        let out = (to * params.inner + column) / 4u;
        dx[out] = select(vec4<f32>(), dx[out], params.accumulate != 0u) + sum;
    }
}
