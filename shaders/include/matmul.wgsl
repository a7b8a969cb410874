// Uniform and weight loader of all products with a quantised weight, and which rows of x, weight and y a tile has.
//
// With GROUPED the weight holds the matrices of many experts one below the other, and a tile works on the tokens of
// one of them: see include/grouped.wgsl.
#define WEIGHT_ROWS params.rows
#define WEIGHT_COLS params.inner
#import "format/FORMAT.wgsl"

struct Params {
    tokens: u32,
    inner: u32,
    row0: u32,
    rows: u32,
    stride: u32,
    accumulate: u32,
    format: u32,
#ifdef GROUPED
    slots: u32,
#else
    rank: u32,
#endif
}

const NONE = 0xffffffffu;

@group(1) @binding(0) var<uniform> params: Params;

// Octets of a row that hold columns below inner, rounded up to whole runs of four octets (32 columns).
fn octets_of_row() -> u32 {
    return ((params.inner + 31u) / 32u) * 4u;
}

#ifdef GROUPED
#import "include/grouped.wgsl"
#else
// After the last token.
fn tokens_end() -> u32 {
    return params.tokens;
}

// Row of x, and of y, that a token has; NONE after the last.
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

// First row that this part holds, and the one after its last.
fn row_range() -> vec2<u32> {
    return vec2<u32>(0u, params.rows);
}

// A row to load: rows past the end repeat the last one.
fn weight_row(row: u32) -> u32 {
    return min(row, params.rows - 1u);
}
#endif
