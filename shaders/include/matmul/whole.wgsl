// Rows of a product with one matrix, of which this part holds rows row0..row0 + rows.

// One past the last token.
fn tokens_end() -> u32 {
    return params.tokens;
}

// Row of x, and of y, that a token has; NONE past the last.
fn x_row(token: u32) -> u32 {
    return select(NONE, token, token < params.tokens);
}

fn y_row(token: u32) -> u32 {
    return x_row(token);
}

// Column of y that a row of the weight has.
fn y_column(row: u32) -> u32 {
    return params.row0 + row;
}

// First row that this part holds, and one past its last.
fn row_range() -> vec2<u32> {
    return vec2<u32>(0u, params.rows);
}

// A row to load: rows past the end repeat the last one.
fn weight_row(row: u32) -> u32 {
    return min(row, params.rows - 1u);
}
