// delta = rowsum(dout * out) of every query and head, into stats[.., 1]. One thread per row.
#import "include/fold.wgsl"
#import "include/attention_params.wgsl"

@group(0) @binding(0) var<storage, read> dout: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> out: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> stats: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = folded(workgroup) * 256u + thread;
    if row >= params.batch * params.queries * params.heads {
        return;
    }
    let vectors = params.head_dim / 4u;
    var delta = 0.0;
    for (var i = row * vectors; i < (row + 1u) * vectors; i++) {
        delta += dot(dout[i], out[i]);
    }
    stats[2u * row + 1u] = delta;
}
