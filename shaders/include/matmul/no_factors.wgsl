// Rows that keep their size: see row_factors.wgsl.
fn find_factors(token0: u32, thread: u32) {}

fn without_factor(sums: vec4<f32>, line: u32) -> vec4<f32> {
    return sums;
}
