// cache[step.past + t] = src[t], left out where the cache ends. One thread per element.
#import "include/fold.wgsl"
#import "include/step.wgsl"

struct Params {
    tokens: u32,
    width: u32,
    capacity: u32,
    pad0: u32,
}

@group(0) @binding(0) var<storage, read> src: array<f32>;
@group(0) @binding(1) var<storage, read_write> cache: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = folded(workgroup) * 256u + thread;
    let row = step.past + index / params.width;
    if index < params.tokens * params.width && row < params.capacity {
        cache[row * params.width + index % params.width] = src[index];
    }
}
