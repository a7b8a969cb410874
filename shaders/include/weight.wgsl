// What the loaders of all block formats share. The kernel defines WEIGHT_ROWS and WEIGHT_COLS.

// Eight decoded weights of one row; octet_columns() gives the first column of each vector.
struct Octet {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Slabs of 64 columns in a row; padding columns hold zeros.
fn slabs() -> u32 {
    return (WEIGHT_COLS + 63u) / 64u;
}
