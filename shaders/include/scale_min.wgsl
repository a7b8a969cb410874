// The 6-bit scale and minimum of sub-block j of Q4_K and Q5_K (ggml's get_scale_min_k4).
fn scale_min(header: vec4<u32>, j: u32) -> vec2<f32> {
    let bytes = header.yzw >> vec3<u32>((j & 3u) * 8u);
    let first = bytes.xy & vec2<u32>(63u);
    let low = vec2<u32>(bytes.z & 15u, (bytes.z >> 4u) & 15u);
    let second = low | (((bytes.xy >> vec2<u32>(6u)) & vec2<u32>(3u)) << vec2<u32>(4u));
    return vec2<f32>(select(first, second, j >= 4u));
}
