// RMSNorm: y = x * weight / sqrt(mean(x^2) + eps).
// One workgroup per row; threads stride over the columns.
#import "include/fold.wgsl"
#import "include/sum.wgsl"
#import "include/rmsnorm.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = folded(workgroup);
    if row >= params.rows {
        return;
    }
    let base = row * params.width;
    var squares = 0.0;
    for (var i = thread; i < params.width; i += 256u) {
        let value = x[base + i];
        squares += value * value;
    }
    let inverse = inverseSqrt(workgroup_sum(thread, squares) / f32(params.width) + params.eps);
    for (var i = thread; i < params.width; i += 256u) {
        y[base + i] = x[base + i] * inverse * weight[i];
    }
}
