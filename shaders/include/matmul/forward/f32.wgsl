// Single precision: a sum over all columns in their order.
#import "include/matmul/f32.wgsl"
#import "include/matmul/forward/cells.wgsl"

fn add_product(sum: f32, a: Cell, b: Cell) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// Adds the products of one token with four rows.
fn add_products(sums: vec4<f32>, a: Cell, b0: Cell, b1: Cell, b2: Cell, b3: Cell) -> vec4<f32> {
    return vec4<f32>(
        add_product(sums.x, a, b0),
        add_product(sums.y, a, b1),
        add_product(sums.z, a, b2),
        add_product(sums.w, a, b3),
    );
}
