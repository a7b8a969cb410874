// out[rows[offset + i]] += src[i]; entries that are NONE add nothing, others may occur several times. One thread per
// element of src: that of a row's first entry adds up all of them in their order, the others do nothing.
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
    let entry = index / params.width;
    let column = index % params.width;
    let row = rows[params.offset + entry];
    if row == NONE {
        return;
    }
    for (var i = 0u; i < entry; i++) {
        if rows[params.offset + i] == row {
            return;
        }
    }
    var sum = out[row * params.width + column];
    for (var i = entry; i < params.count; i++) {
        if rows[params.offset + i] == row {
            sum += src[i * params.width + column];
        }
    }
    out[row * params.width + column] = sum;
}
