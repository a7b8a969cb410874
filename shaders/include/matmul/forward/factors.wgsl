// Factors of the rows of x, for products y = x W^T in half precision.
#import "include/matmul/row_factors.wgsl"

// The largest magnitudes of a row of x, over a quarter of it.
fn largest_of_quarter(token: u32, quarter: u32) -> vec4<f32> {
    let row = x_row(token);
    let octets = octets_of_row();
    var most = vec4<f32>();
    for (var octet = quarter; octet < octets; octet += 4u) {
        let values = x_octet(row, octet);
        most = max(most, max(abs(values.low), abs(values.high)));
    }
    return most;
}
