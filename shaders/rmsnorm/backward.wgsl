// Gradient of RMSNorm with respect to x, with r = 1 / sqrt(mean(x^2) + eps):
// dx (+)= r * weight * dy - x * r^3 / width * sum(weight * dy * x).
// One workgroup per row; threads stride over the columns.
#import "include/fold.wgsl"
#import "include/sum.wgsl"
#import "include/rmsnorm.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = folded(workgroup);
    if row >= params.rows {
        return;
    }
    let base = row * params.width;
    var squares = 0.0;
    var products = 0.0;
    for (var i = thread; i < params.width; i += 256u) {
        let value = x[base + i];
        squares += value * value;
        products += value * weight[i] * dy[base + i];
    }
    let width = f32(params.width);
    let inverse = inverseSqrt(workgroup_sum(thread, squares) / width + params.eps);
    let pull = workgroup_sum(thread, products) / width * inverse * inverse * inverse;
    for (var i = thread; i < params.width; i += 256u) {
        var gradient = inverse * weight[i] * dy[base + i] - x[base + i] * pull;
        if params.accumulate != 0u {
            gradient += dx[base + i];
        }
        dx[base + i] = gradient;
    }
}
