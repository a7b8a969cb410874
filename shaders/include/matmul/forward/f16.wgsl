// Half precision: a sum of eight products by column of a vector; four of these at a time go into a sum in single
// precision.
#import "include/matmul/f16.wgsl"
#import "include/matmul/forward/factors.wgsl"
#import "include/matmul/forward/cells.wgsl"
#define RUNS 1
alias Run = mat4x4<f16>;

// Adds the products of one token with four rows, by column.
fn add_products(run: Run, a: Cell, b0: Cell, b1: Cell, b2: Cell, b3: Cell) -> Run {
    return Run(fma(a, b0, run[0]), fma(a, b1, run[1]), fma(a, b2, run[2]), fma(a, b3, run[3]));
}

fn over_columns(run: vec4<f16>) -> f32 {
    let pair = run.xy + run.zw;
    return f32(pair.x + pair.y);
}

fn sums_of(run: Run) -> vec4<f32> {
    return vec4<f32>(over_columns(run[0]), over_columns(run[1]), over_columns(run[2]), over_columns(run[3]));
}
