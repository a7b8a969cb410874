// Rotary position embedding in place: the pair (a, b) turns to (a cos - b sin, a sin + b cos).
// One thread per pair. Style 0 pairs dimensions 2i and 2i + 1, style 1 pairs i and i + rotary / 2.
#import "include/fold.wgsl"

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    rotary: u32,
    style: u32,
    sign: f32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<storage, read> positions: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let half = params.rotary / 2u;
    let index = folded(workgroup) * 256u + thread;
    if index >= params.tokens * params.heads * half {
        return;
    }
    let pair = index % half;
    let row = index / half;
    let turn = table[positions[row / params.heads] * half + pair];
    let sine = turn.y * params.sign;
    var first = row * params.head_dim + pair;
    var second = first + half;
    if params.style == 0u {
        first += pair;
        second = first + 1u;
    }
    let a = x[first];
    let b = x[second];
    x[first] = a * turn.x - b * sine;
    x[second] = a * sine + b * turn.x;
}
