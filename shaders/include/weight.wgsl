// What the loaders of all block formats share. The kernel defines WEIGHT_ROWS and WEIGHT_COLS, the format how far APART
// the columns of an octet's two vectors are.

// Eight decoded weights of one row; octet_columns() gives the first column of each vector.
struct Octet {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Slabs of 64 columns in a row; padding columns hold zeros.
fn slabs() -> u32 {
    return (WEIGHT_COLS + 63u) / 64u;
}

fn octet_columns(octet: u32) -> vec2<u32> {
    let first = octet / (APART / 4u) * (2u * APART) + octet % (APART / 4u) * 4u;
    return vec2<u32>(first, first + APART);
}
