// Sums of squares of the gradients, one chunk of ceil(len / partials) elements per workgroup.
#import "include/fold.wgsl"
#import "include/sum.wgsl"

struct Params {
    len: u32,
    partials: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<storage, read> grads: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let chunk = folded(workgroup);
    if chunk >= params.partials {
        return;
    }
    let size = (params.len + params.partials - 1u) / params.partials;
    let end = min((chunk + 1u) * size, params.len);
    var squares = 0.0;
    for (var i = chunk * size + thread; i < end; i += 256u) {
        squares += grads[i] * grads[i];
    }
    let sum = workgroup_sum(thread, squares);
    if thread == 0u {
        partials[chunk] = sum;
    }
}
