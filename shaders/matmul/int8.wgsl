// y = x W^T like tile.wgsl, by dot products of four 8-bit integers.
//
// The tile and its threads are those of tile.wgsl. Each octet of a row, of x and of the weight, becomes eight integers
// from -127 to 127 and a factor: its largest value divided by 127. A product of two octets is exact in integers.
#import "include/matmul.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// [4 octets][64 rows]
var<workgroup> x_tile: array<vec2<u32>, 256>;
var<workgroup> w_tile: array<vec2<u32>, 256>;
var<workgroup> x_factors: array<f32, 256>;
var<workgroup> w_factors: array<f32, 256>;

#import "include/matmul_tile.wgsl"

struct Integers {
    packed: vec2<u32>,
    factor: f32,
}

fn integers(octet: Octet) -> Integers {
    // By their bits, so that NaN is the largest of all and stays what it is.
    let size = vec4<u32>(0x7fffffffu);
    let bits = max(bitcast<vec4<u32>>(octet.low) & size, bitcast<vec4<u32>>(octet.high) & size);
    let most = bitcast<f32>(max(max(bits.x, bits.y), max(bits.z, bits.w)));
    let scale = select(0.0, 127.0 / most, most > 1e-36);
    return Integers(
        vec2<u32>(pack4xI8(vec4<i32>(round(octet.low * scale))), pack4xI8(vec4<i32>(round(octet.high * scale)))),
        most / 127.0,
    );
}

fn product(a: vec2<u32>, b: vec2<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y);
}

// Adds the products of the token at `at` with four rows.
fn add(
    sums: vec4<f32>,
    at: u32,
    w0: vec2<u32>,
    w1: vec2<u32>,
    w2: vec2<u32>,
    w3: vec2<u32>,
    w_factor: vec4<f32>,
) -> vec4<f32> {
    let own = x_tile[at];
    let products = vec4<i32>(product(own, w0), product(own, w1), product(own, w2), product(own, w3));
    return fma(vec4<f32>(products) * w_factor, vec4<f32>(x_factors[at]), sums);
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row0 = workgroup.x * 64u;
    let token0 = workgroup.y * 64u;
    let tokens = tokens_end() - token0;
    // What this thread brings: one octet of two rows and of two tokens.
    let octet = thread % 4u;
    let line = thread / 4u;
    let first_row = weight_row(row0 + line);
    let second_row = weight_row(row0 + line + 32u);
    let first_token = x_row(token0 + line);
    let second_token = x_row(token0 + line + 32u);
    let slot = octet * 64u + line;
    let tx = thread % 16u;
    let ty = thread / 16u;
    var sums0 = vec4<f32>();
    var sums1 = vec4<f32>();
    var sums2 = vec4<f32>();
    var sums3 = vec4<f32>();
    var sums4 = vec4<f32>();
    var sums5 = vec4<f32>();
    var sums6 = vec4<f32>();
    var sums7 = vec4<f32>();
    let octets = octets_of_row();
    for (var start = 0u; start < octets; start += 4u) {
        let w_first = integers(load8(first_row, start + octet));
        let w_second = integers(load8(second_row, start + octet));
        let x_first = integers(input(first_token, start + octet));
        let x_second = integers(input(second_token, start + octet));
        workgroupBarrier();
        w_tile[slot] = w_first.packed;
        w_tile[slot + 32u] = w_second.packed;
        w_factors[slot] = w_first.factor;
        w_factors[slot + 32u] = w_second.factor;
        x_tile[slot] = x_first.packed;
        x_tile[slot + 32u] = x_second.packed;
        x_factors[slot] = x_first.factor;
        x_factors[slot + 32u] = x_second.factor;
        workgroupBarrier();
        for (var k = 0u; k < 4u; k++) {
            let wt = k * 64u + tx;
            let xt = k * 64u + ty;
            let w0 = w_tile[wt];
            let w1 = w_tile[wt + 16u];
            let w2 = w_tile[wt + 32u];
            let w3 = w_tile[wt + 48u];
            let factor = vec4<f32>(w_factors[wt], w_factors[wt + 16u], w_factors[wt + 32u], w_factors[wt + 48u]);
            sums0 = add(sums0, xt, w0, w1, w2, w3, factor);
            sums1 = add(sums1, xt + 8u, w0, w1, w2, w3, factor);
            if tokens > 16u {
                sums2 = add(sums2, xt + 16u, w0, w1, w2, w3, factor);
                sums3 = add(sums3, xt + 24u, w0, w1, w2, w3, factor);
            }
            if tokens > 32u {
                sums4 = add(sums4, xt + 32u, w0, w1, w2, w3, factor);
                sums5 = add(sums5, xt + 40u, w0, w1, w2, w3, factor);
                sums6 = add(sums6, xt + 48u, w0, w1, w2, w3, factor);
                sums7 = add(sums7, xt + 56u, w0, w1, w2, w3, factor);
            }
        }
    }
    let row = row0 + tx;
    let token = token0 + ty;
    store4(token, row, 16u, sums0);
    store4(token + 8u, row, 16u, sums1);
    store4(token + 16u, row, 16u, sums2);
    store4(token + 24u, row, 16u, sums3);
    store4(token + 32u, row, 16u, sums4);
    store4(token + 40u, row, 16u, sums5);
    store4(token + 48u, row, 16u, sums6);
    store4(token + 56u, row, 16u, sums7);
}
