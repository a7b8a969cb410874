// out[i] = x[rows[offset + i]], zeros where the entry is NONE. One thread per element of out.
#import "include/fold.wgsl"
#import "include/rows.wgsl"

@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = folded(workgroup) * 256u + thread;
    if index >= params.count * params.width {
        return;
    }
    let row = rows[params.offset + index / params.width];
    var value = 0.0;
    if row != NONE {
        value = x[row * params.width + index % params.width];
    }
    out[index] = value;
}
