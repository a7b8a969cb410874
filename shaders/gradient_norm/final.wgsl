// norm = sqrt(sum of the partials), one workgroup.
#import "include/sum.wgsl"

struct Params {
    len: u32,
    partials: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> norm: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var value = 0.0;
    for (var i = thread; i < params.partials; i += 256u) {
        value += partials[i];
    }
    let sum = workgroup_sum(thread, value);
    if thread == 0u {
        norm[0] = sqrt(sum);
    }
}
