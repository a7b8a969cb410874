// out (+)= x * factor of the column. One thread per element.
#import "include/fold.wgsl"
#import "include/scale_columns.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> scales: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i >= params.rows * params.width {
        return;
    }
    let value = x[i] * (params.strength * scales[i % params.width] + (1.0 - params.strength));
    if params.accumulate == 1u {
        out[i] += value;
    } else {
        out[i] = value;
    }
}
