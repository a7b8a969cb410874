// Loader of BF16: an octet is four words of two upper halves of an f32.
#import "include/weight.wgsl" APART=4u

@group(0) @binding(1) var<storage, read> weight: array<vec4<u32>>;

fn load8(row: u32, octet: u32) -> Octet {
    let w = weight[row * slabs() * 8u + octet];
    let first = bitcast<vec4<f32>>(w << vec4<u32>(16u));
    let second = bitcast<vec4<f32>>(w & vec4<u32>(0xffff0000u));
    return Octet(
        vec4<f32>(first.x, second.x, first.y, second.y),
        vec4<f32>(first.z, second.z, first.w, second.w),
    );
}
