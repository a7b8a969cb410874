// Uniform and weight loader of all products with a quantised weight, and which rows of x, weight and y a tile has.
//
// With GROUPED the weight holds the matrices of many experts one below the other, and a tile works on the tokens of
// one of them: see grouped.wgsl.
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
#import "include/matmul/grouped.wgsl"
#else
#import "include/matmul/whole.wgsl"
#endif
