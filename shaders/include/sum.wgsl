// Sum over a workgroup of 256 threads in a fixed order: a binary tree.
var<workgroup> addends: array<f32, 256>;

fn workgroup_sum(local: u32, value: f32) -> f32 {
    addends[local] = value;
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if (local < stride) {
            addends[local] += addends[local + stride];
        }
    }
    // Waits before and after, so that the next sum may overwrite `addends`.
    return workgroupUniformLoad(&addends[0]);
}
