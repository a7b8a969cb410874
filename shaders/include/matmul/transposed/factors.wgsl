// Factors of the rows of dy, for products dx = dy W in half precision.
#import "include/matmul/row_factors.wgsl"

// The largest magnitudes of a row of dy, over a quarter of it.
fn largest_of_quarter(token: u32, quarter: u32) -> vec4<f32> {
    let owner = y_row(token);
    let rows = row_range();
    var most = vec4<f32>();
    for (var row = rows.x + quarter * 4u; row < rows.y; row += 16u) {
        most = max(most, abs(gradients(owner, row)));
    }
    return most;
}
