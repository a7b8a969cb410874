// x[r, c] += magnitudes[r] * u, u uniform in [-1, 1). One thread per four elements.
#import "include/fold.wgsl"
#import "include/philox.wgsl"

struct Params {
    rows: u32,
    width: u32,
    row: u32,
    pad: u32,
}

@group(0) @binding(0) var<storage, read> magnitudes: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

const STREAM = 0x6e6f6973u;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let four = folded(workgroup) * 256u + thread;
    let first = four * 4u;
    let elements = params.rows * params.width;
    if first >= elements {
        return;
    }
    let words = random_words(STREAM, 0u, four, params.row);
    let end = min(first + 4u, elements);
    for (var i = first; i < end; i++) {
        let unit = f32(words[i - first] >> 8u) / 8388608.0 - 1.0;
        x[i] += magnitudes[i / params.width] * unit;
    }
}
