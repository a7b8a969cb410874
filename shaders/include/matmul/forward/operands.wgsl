// x and y of the forward products y = x W^T.
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// An octet of a row of x, in the columns that this octet of the weight has; zeros where there is none.
fn x_octet(row: u32, octet: u32) -> Octet {
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

fn store(to: u32, row: u32, sum: f32) {
    let rows = row_range();
    if to != NONE && row >= rows.x && row < rows.y {
        let out = to * params.stride + y_column(row);
        y[out] = select(0.0, y[out], params.accumulate != 0u) + sum;
    }
}
