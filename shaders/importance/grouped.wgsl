// sums[e, c] = x[r, c]^2 + .. over the rows r of the pairs of expert e, in the order of the sorted list; several pairs
// may share a row. One thread per column of one expert; a workgroup reads 64 neighbors of each row.
#import "include/fold.wgsl"

struct Params {
    experts: u32,
    slots: u32,
    width: u32,
    pad: u32,
}

@group(1) @binding(0) var<uniform> params: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> counts: array<u32>;
@group(0) @binding(2) var<storage, read> list: array<u32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let blocks = (params.width + 63u) / 64u;
    let expert = folded(workgroup) / blocks;
    let column = folded(workgroup) % blocks * 64u + thread;
    if expert >= params.experts || column >= params.width {
        return;
    }
    var first = 0u;
    for (var i = 0u; i < expert; i++) {
        first += counts[i];
    }
    var sum = 0.0;
    for (var i = first; i < first + counts[expert]; i++) {
        let value = x[list[i] / params.slots * params.width + column];
        sum += value * value;
    }
    sums[expert * params.width + column] = sum;
}
