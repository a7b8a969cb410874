// Single precision: a sum over all rows in their order.
#import "include/matmul/f32.wgsl"
#import "include/matmul/transposed/cells.wgsl"

// Adds the products of one token's gradients of four rows with four columns of these.
fn add_products(sum: vec4<f32>, d: Cell, w0: Cell, w1: Cell, w2: Cell, w3: Cell) -> vec4<f32> {
    return fma(Cell(d.w), w3, fma(Cell(d.z), w2, fma(Cell(d.y), w1, fma(Cell(d.x), w0, sum))));
}
