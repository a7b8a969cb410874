// out[rows[offset + i]] = src[i]; entries that are NONE write nothing. One thread per element of src.
#import "include/fold.wgsl"
#import "include/rows.wgsl"

@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read> src: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = folded(workgroup) * 256u + thread;
    if index >= params.count * params.width {
        return;
    }
    let row = rows[params.offset + index / params.width];
    if row != NONE {
        out[row * params.width + index % params.width] = src[index];
    }
}
