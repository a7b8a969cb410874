// dscales[c] += strength * (dout[0, c] * x[0, c] + dout[1, c] * x[1, c] + ..). A workgroup has 32 columns; each of its
// eight rows of threads sums every eighth row of x, and the first adds the eight sums up in their order.
#import "include/fold.wgsl"
#import "include/scale_columns.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dout: array<f32>;
@group(0) @binding(2) var<storage, read_write> dscales: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let column = folded(workgroup) * 32u + thread % 32u;
    var sum = 0.0;
    if column < params.width {
        for (var row = thread / 32u; row < params.rows; row += 8u) {
            let i = row * params.width + column;
            sum += dout[i] * x[i];
        }
    }
    sums[thread] = sum;
    workgroupBarrier();
    if thread < 32u && column < params.width {
        var total = 0.0;
        for (var part = 0u; part < 8u; part++) {
            total += sums[part * 32u + thread];
        }
        dscales[column] += params.strength * total;
    }
}
