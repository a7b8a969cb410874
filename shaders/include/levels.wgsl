// Tables of sixteen signed bytes, four words: a constant array would lie in slow private memory.

// The values at four codes: codes 0 to 3 are the bytes of `table.x`, from the lowest, and so on.
fn levels(codes: vec4<u32>, table: vec4<u32>) -> vec4<f32> {
    let odd = (codes & vec4<u32>(4u)) != vec4<u32>(0u);
    let lower = select(vec4<u32>(table.x), vec4<u32>(table.y), odd);
    let upper = select(vec4<u32>(table.z), vec4<u32>(table.w), odd);
    let word = select(lower, upper, codes >= vec4<u32>(8u));
    let top = word << ((vec4<u32>(3u) - (codes & vec4<u32>(3u))) * 8u);
    return vec4<f32>(bitcast<vec4<i32>>(top) >> vec4<u32>(24u));
}

// The levels of IQ4_NL and IQ4_XS.
fn uneven_levels(codes: vec4<u32>) -> vec4<f32> {
    return levels(codes, vec4<u32>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u));
}

// The doubled floats of MXFP4.
fn float_levels(codes: vec4<u32>) -> vec4<f32> {
    return levels(codes, vec4<u32>(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu));
}
