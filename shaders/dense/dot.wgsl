// c = a b where c is small and the contraction long: one workgroup per element of c, lanes over the contraction.
#import "include/fold.wgsl"
#import "include/dense.wgsl"

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let element = folded(workgroup);
    let i = element / params.n;
    let j = element % params.n;
    var sum = 0.0;
    if i < params.m {
        for (var k = thread; k < params.k; k += 64u) {
            sum += left(i, k) * right(k, j);
        }
    }
    partial[thread] = sum;
    workgroupBarrier();
    if thread < 8u {
        let run = thread * 8u;
        let first = (partial[run] + partial[run + 1u]) + (partial[run + 2u] + partial[run + 3u]);
        let second = (partial[run + 4u] + partial[run + 5u]) + (partial[run + 6u] + partial[run + 7u]);
        sum = first + second;
    }
    workgroupBarrier();
    if thread < 8u {
        partial[thread] = sum;
    }
    workgroupBarrier();
    if thread == 0u && i < params.m {
        let first = (partial[0] + partial[1]) + (partial[2] + partial[3]);
        let second = (partial[4] + partial[5]) + (partial[6] + partial[7]);
        store(i, j, first + second);
    }
}
