// Sum over a workgroup of 256 threads in a fixed order: a binary tree.
var<workgroup> addends: array<f32, 256>;

fn workgroup_sum(thread: u32, value: f32) -> f32 {
    addends[thread] = value;
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if thread < stride {
            addends[thread] += addends[thread + stride];
        }
    }
    // Waits before and after, so that the next sum may overwrite `addends`.
    return workgroupUniformLoad(&addends[0]);
}
