// c = a b where one side of c is a low rank and the contraction is long: a workgroup owns 4 x 4 elements of c.
//
// 64 lanes stride over the contraction, each with 16 sums and no workgroup memory in the loop; two stages of sums in a
// fixed order finish. Rows and columns past the end repeat the last one and are not stored.
#import "include/fold.wgsl"
#import "include/dense.wgsl"

// By row of c and lane; the components are the columns.
var<workgroup> partial: array<vec4<f32>, 256>;
// By row of c and run of four lanes.
var<workgroup> quarter: array<vec4<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let across = (params.n + 3u) / 4u;
    let i0 = (folded(workgroup) / across) * 4u;
    let j0 = (folded(workgroup) % across) * 4u;
    let last_i = params.m - 1u;
    let last_j = params.n - 1u;
    let a0 = min(i0, last_i) * params.a_row;
    let a1 = min(i0 + 1u, last_i) * params.a_row;
    let a2 = min(i0 + 2u, last_i) * params.a_row;
    let a3 = min(i0 + 3u, last_i) * params.a_row;
    let b0 = min(j0, last_j) * params.b_col;
    let b1 = min(j0 + 1u, last_j) * params.b_col;
    let b2 = min(j0 + 2u, last_j) * params.b_col;
    let b3 = min(j0 + 3u, last_j) * params.b_col;
    var sums0 = vec4<f32>();
    var sums1 = vec4<f32>();
    var sums2 = vec4<f32>();
    var sums3 = vec4<f32>();
    for (var k = thread; k < params.k; k += 64u) {
        let ak = k * params.a_col;
        let bk = k * params.b_row;
        let right = vec4<f32>(b[b0 + bk], b[b1 + bk], b[b2 + bk], b[b3 + bk]);
        sums0 += a[a0 + ak] * right;
        sums1 += a[a1 + ak] * right;
        sums2 += a[a2 + ak] * right;
        sums3 += a[a3 + ak] * right;
    }
    partial[thread] = sums0;
    partial[thread + 64u] = sums1;
    partial[thread + 128u] = sums2;
    partial[thread + 192u] = sums3;
    workgroupBarrier();
    let run = thread * 4u;
    quarter[thread] = (partial[run] + partial[run + 1u]) + (partial[run + 2u] + partial[run + 3u]);
    workgroupBarrier();
    let i = thread / 4u;
    let j = thread % 4u;
    if thread < 16u && i0 + i < params.m && j0 + j < params.n {
        var sum = 0.0;
        for (var n = 0u; n < 16u; n++) {
            sum += quarter[i * 16u + n][j];
        }
        store(i0 + i, j0 + j, sum);
    }
}
