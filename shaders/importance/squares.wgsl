// sums[c] = x[0, c]^2 + x[1, c]^2 + .., row by row. One thread per column; a workgroup reads 64 neighbors of each row.
#import "include/fold.wgsl"

struct Params {
    rows: u32,
    width: u32,
    pad0: u32,
    pad1: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let column = folded(workgroup) * 64u + thread;
    if column >= params.width {
        return;
    }
    var sum = 0.0;
    for (var row = 0u; row < params.rows; row++) {
        let value = x[row * params.width + column];
        sum += value * value;
    }
    sums[column] = sum;
}
