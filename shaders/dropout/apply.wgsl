// out (+)= scale * mask * x, where the mask is 0 for random words below the threshold. One thread per four elements.
#import "include/fold.wgsl"
#import "include/philox.wgsl"

struct Params {
    len: u32,
    site: u32,
    threshold: u32,
    accumulate: u32,
    scale: f32,
    first: u32,
    row: u32,
    pad: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

const STREAM = 0x64726f70u;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let four = folded(workgroup) * 256u + thread;
    let first = four * 4u;
    if first >= params.len {
        return;
    }
    let words = random_words(STREAM, params.site, params.first + four, params.row);
    let end = min(first + 4u, params.len);
    for (var i = first; i < end; i++) {
        var kept = 0.0;
        if words[i - first] >= params.threshold {
            kept = params.scale * x[i];
        }
        if params.accumulate == 1u {
            kept += out[i];
        }
        out[i] = kept;
    }
}
