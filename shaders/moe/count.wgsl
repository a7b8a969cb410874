// How many pairs (token, slot) chose each expert. One workgroup per expert.
#import "include/fold.wgsl"
#import "include/moe.wgsl"

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;

var<workgroup> sums: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let expert = folded(workgroup);
    if expert >= params.experts {
        return;
    }
    var count = 0u;
    for (var pair = thread; pair < pairs(); pair += 256u) {
        count += select(0u, 1u, ids[pair] == expert);
    }
    sums[thread] = count;
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if thread < stride {
            sums[thread] += sums[thread + stride];
        }
    }
    if thread == 0u {
        counts[expert] = sums[0];
    }
}
