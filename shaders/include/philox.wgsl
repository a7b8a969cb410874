// Counter-based random numbers, mirrored by loam_shaders::random.
#import "include/step.wgsl"

// The high word of a product: WGSL has only the low one.
fn high_word(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}

// Four words for elements 4 * place to 4 * place + 3 of a stream (what they are for) at a site of the model; `row` such
// places are a row of the batch, or all of them if it is 0: Philox4x32-10 (Salmon et al. 2011).
fn random_words(stream: u32, site: u32, place: u32, row: u32) -> vec4<u32> {
    let whole = max(row, 1u);
    let rows = select(0u, place / whole, row > 0u);
    var x = vec4(place - rows * whole, site, step.step, step.rows + rows);
    var key = vec2(step.seed, stream);
    for (var round = 0u; round < 10u; round++) {
        let low = vec2(high_word(x.x, 0xD2511F53u), x.x * 0xD2511F53u);
        let high = vec2(high_word(x.z, 0xCD9E8D57u), x.z * 0xCD9E8D57u);
        x = vec4(high.x ^ x.y ^ key.x, high.y, low.x ^ x.w ^ key.y, low.y);
        key += vec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return x;
}
