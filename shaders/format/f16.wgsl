// Loader of F16: an octet is four words of two halves. No f16 feature needed.
#import "include/weight.wgsl" APART=4u

@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

fn load8(row: u32, octet: u32) -> Octet {
    let w = weight[row * slabs() * 8u + octet];
    return Octet(
        vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y)),
        vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w)),
    );
}
