// What the tiled products y = x W^T share: loads of x, sums and stores. They declare x and y.
fn input(row: u32, octet: u32) -> Octet {
    var values = Octet(vec4<f32>(), vec4<f32>());
    if row != NONE {
        let columns = octet_columns(octet);
        if columns.x < params.inner {
            values.low = x[(row * params.inner + columns.x) / 4u];
        }
        if columns.y < params.inner {
            values.high = x[(row * params.inner + columns.y) / 4u];
        }
    }
    return values;
}

fn add_product(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

fn add_products(
    sums: vec4<f32>,
    a: vec4<f32>,
    b0: vec4<f32>,
    b1: vec4<f32>,
    b2: vec4<f32>,
    b3: vec4<f32>,
) -> vec4<f32> {
    return vec4<f32>(
        add_product(sums.x, a, b0),
        add_product(sums.y, a, b1),
        add_product(sums.z, a, b2),
        add_product(sums.w, a, b3),
    );
}

fn store(to: u32, row: u32, sum: f32) {
    let rows = row_range();
    if to != NONE && row >= rows.x && row < rows.y {
        let out = to * params.stride + y_column(row);
        y[out] = select(0.0, y[out], params.accumulate != 0u) + sum;
    }
}

// Sums of one token and four rows that are `apart`.
fn store4(token: u32, row: u32, apart: u32, sums: vec4<f32>) {
    let to = y_row(token);
    store(to, row, sums.x);
    store(to, row + apart, sums.y);
    store(to, row + 2u * apart, sums.z);
    store(to, row + 3u * apart, sums.w);
}
