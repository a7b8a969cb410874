// Cells in half precision: half the workgroup memory, and two products per instruction on most GPUs. A run of products
// is summed up in half precision, then added to a sum in single precision.
enable f16;
alias Cell = vec4<f16>;
#define SEPARATE_RUNS
#define RUN run

fn cell_of_left(values: vec4<f32>, line: u32) -> Cell {
    return Cell(values * factors[line]);
}

fn cell_of_right(values: vec4<f32>) -> Cell {
    return Cell(values);
}

fn without_factor(sums: vec4<f32>, line: u32) -> vec4<f32> {
    return sums * unfactored(line);
}
