// Loader of F32: an octet is two vectors.
#import "include/weight.wgsl" APART=4u

@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

fn load8(row: u32, octet: u32) -> Octet {
    let at = (row * slabs() * 8u + octet) * 2u;
    return Octet(bitcast<vec4<f32>>(weight[at]), bitcast<vec4<f32>>(weight[at + 1u]));
}
