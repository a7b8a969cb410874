// cache[places[t]] = src[t], left out where there is no such place. One thread per element.
#import "include/fold.wgsl"

struct Params {
    tokens: u32,
    width: u32,
    capacity: u32,
    pad0: u32,
}

@group(0) @binding(0) var<storage, read> src: array<f32>;
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> cache: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = folded(workgroup) * 256u + thread;
    if index >= params.tokens * params.width {
        return;
    }
    let row = places[index / params.width];
    if row < params.capacity {
        cache[row * params.width + index % params.width] = src[index];
    }
}
