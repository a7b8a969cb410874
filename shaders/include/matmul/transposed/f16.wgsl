// Half precision: a sum of 16 products is kept in half precision, then goes into one in single precision.
#import "include/matmul/f16.wgsl"
#import "include/matmul/transposed/factors.wgsl"
#import "include/matmul/transposed/cells.wgsl"
#define RUNS 2
alias Run = Cell;

// Adds the products of one token's gradients of four rows with four columns of these.
fn add_products(run: Run, d: Cell, w0: Cell, w1: Cell, w2: Cell, w3: Cell) -> Run {
    return fma(Cell(d.w), w3, fma(Cell(d.z), w2, fma(Cell(d.y), w1, fma(Cell(d.x), w0, run))));
}

fn sums_of(run: Run) -> vec4<f32> {
    return vec4<f32>(run);
}
