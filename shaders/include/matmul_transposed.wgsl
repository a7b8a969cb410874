// What the transposed products dx = dy W share: loads of dy, sums and stores. They declare dy and dx.
fn gradient(owner: u32, row: u32, rows: vec2<u32>) -> f32 {
    if owner != NONE && row < rows.y {
        return dy[owner * params.stride + y_column(row)];
    }
    return 0.0;
}

fn gradients(owner: u32, row: u32, rows: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(
        gradient(owner, row, rows),
        gradient(owner, row + 1u, rows),
        gradient(owner, row + 2u, rows),
        gradient(owner, row + 3u, rows),
    );
}

fn add_products(sum: vec4<f32>, d: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    return fma(vec4<f32>(d.w), w3, fma(vec4<f32>(d.z), w2, fma(vec4<f32>(d.y), w1, fma(vec4<f32>(d.x), w0, sum))));
}

fn store(token: u32, column: u32, sum: vec4<f32>) {
    let to = y_row(token);
    if to != NONE && column < params.inner {
        let out = (to * params.inner + column) / 4u;
        dx[out] = select(vec4<f32>(), dx[out], params.accumulate != 0u) + sum;
    }
}

// First column of the vector-th vector of a slab whose octets start at octet0.
fn column_of(octet0: u32, vector: u32) -> u32 {
    let columns = octet_columns(octet0 + vector / 2u);
    return select(columns.x, columns.y, vector % 2u == 1u);
}
