// Uniform and weight loader of all products with a quantised weight.
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
    pad0: u32,
}

@group(1) @binding(0) var<uniform> params: Params;

// Octets of a row that hold columns below inner, rounded up to whole runs of four octets (32 columns).
fn octets_of_row() -> u32 {
    return ((params.inner + 31u) / 32u) * 4u;
}
