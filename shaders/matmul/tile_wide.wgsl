// y = x W^T like tile.wgsl, with the same sums, in tiles of 128 tokens x 64 rows, 16 columns at a time.
//
// 128 threads; thread (tx, ty) computes tokens ty + 16 i and rows tx + 8 j, i and j in 0..8: 16 vectors from workgroup
// memory feed 256 products, where tile.wgsl's 12 feed 128. For devices with registers to spare and many tokens.
#import "include/matmul.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// [4 vectors][128 tokens] and [4 vectors][64 rows], scrambled as in tile.wgsl.
var<workgroup> x_tile: array<vec4<f32>, 512>;
var<workgroup> w_tile: array<vec4<f32>, 256>;

#import "include/matmul_tile.wgsl"
#ifdef LORA
#import "include/matmul_tile_lora.wgsl"
#endif

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row0 = workgroup.x * 64u;
    let token0 = workgroup.y * 128u;
    let tokens = tokens_end() - token0;
    // What this thread brings: one octet of one row and of two tokens.
    let octet = thread % 2u;
    let line = thread / 2u;
    let own_row = weight_row(row0 + line);
    let first_token = x_row(token0 + line);
    let second_token = x_row(token0 + line + 64u);
    let scrambled = line ^ (octet * 4u);
    let x_slot = octet * 256u + scrambled;
    let w_slot = octet * 128u + scrambled;
    let tx = thread % 8u;
    let ty = thread / 8u;
    var low0 = vec4<f32>();
    var high0 = vec4<f32>();
    var low1 = vec4<f32>();
    var high1 = vec4<f32>();
    var low2 = vec4<f32>();
    var high2 = vec4<f32>();
    var low3 = vec4<f32>();
    var high3 = vec4<f32>();
    var low4 = vec4<f32>();
    var high4 = vec4<f32>();
    var low5 = vec4<f32>();
    var high5 = vec4<f32>();
    var low6 = vec4<f32>();
    var high6 = vec4<f32>();
    var low7 = vec4<f32>();
    var high7 = vec4<f32>();
    let octets = octets_of_row();
#ifdef LORA
    let vectors = octets * 2u + params.rank / 4u;
    let end = (vectors + 1u) / 2u;
#else
    let end = octets;
#endif
    var w_own = load8(own_row, octet);
    var x_first = input(first_token, octet);
    var x_second = input(second_token, octet);
    for (var start = 0u; start < end; start += 2u) {
        x_tile[x_slot] = x_first.low;
        x_tile[x_slot + 64u] = x_second.low;
        x_tile[x_slot + 128u] = x_first.high;
        x_tile[x_slot + 192u] = x_second.high;
        w_tile[w_slot] = w_own.low;
        w_tile[w_slot + 64u] = w_own.high;
        workgroupBarrier();
        let next = start + 2u + octet;
        if start + 2u < octets {
            w_own = load8(own_row, next);
            x_first = input(first_token, next);
            x_second = input(second_token, next);
        }
#ifdef LORA
        else if start + 2u < end {
            w_own = b_octet(own_row, next - octets);
            x_first = u_octet(first_token, next - octets);
            x_second = u_octet(second_token, next - octets);
        }
#endif
        for (var k = 0u; k < 4u; k++) {
#ifdef LORA
            if start * 2u + k >= vectors {
                break;
            }
#endif
            let flip = (k & 2u) * 2u;
            let wt = k * 64u + (tx ^ flip);
            let xt = k * 128u + (ty ^ flip);
            let w0 = w_tile[wt];
            let w1 = w_tile[wt + 8u];
            let w2 = w_tile[wt + 16u];
            let w3 = w_tile[wt + 24u];
            let w4 = w_tile[wt + 32u];
            let w5 = w_tile[wt + 40u];
            let w6 = w_tile[wt + 48u];
            let w7 = w_tile[wt + 56u];
            let x0 = x_tile[xt];
            low0 = add_products(low0, x0, w0, w1, w2, w3);
            high0 = add_products(high0, x0, w4, w5, w6, w7);
            let x1 = x_tile[xt + 16u];
            low1 = add_products(low1, x1, w0, w1, w2, w3);
            high1 = add_products(high1, x1, w4, w5, w6, w7);
            let x2 = x_tile[xt + 32u];
            low2 = add_products(low2, x2, w0, w1, w2, w3);
            high2 = add_products(high2, x2, w4, w5, w6, w7);
            let x3 = x_tile[xt + 48u];
            low3 = add_products(low3, x3, w0, w1, w2, w3);
            high3 = add_products(high3, x3, w4, w5, w6, w7);
            if tokens > 64u {
                let x4 = x_tile[xt + 64u];
                low4 = add_products(low4, x4, w0, w1, w2, w3);
                high4 = add_products(high4, x4, w4, w5, w6, w7);
                let x5 = x_tile[xt + 80u];
                low5 = add_products(low5, x5, w0, w1, w2, w3);
                high5 = add_products(high5, x5, w4, w5, w6, w7);
                let x6 = x_tile[xt + 96u];
                low6 = add_products(low6, x6, w0, w1, w2, w3);
                high6 = add_products(high6, x6, w4, w5, w6, w7);
                let x7 = x_tile[xt + 112u];
                low7 = add_products(low7, x7, w0, w1, w2, w3);
                high7 = add_products(high7, x7, w4, w5, w6, w7);
            }
        }
        workgroupBarrier();
    }
    let row = row0 + tx;
    let token = token0 + ty;
    store4(token, row, 8u, low0);
    store4(token, row + 32u, 8u, high0);
    store4(token + 16u, row, 8u, low1);
    store4(token + 16u, row + 32u, 8u, high1);
    store4(token + 32u, row, 8u, low2);
    store4(token + 32u, row + 32u, 8u, high2);
    store4(token + 48u, row, 8u, low3);
    store4(token + 48u, row + 32u, 8u, high3);
    store4(token + 64u, row, 8u, low4);
    store4(token + 64u, row + 32u, 8u, high4);
    store4(token + 80u, row, 8u, low5);
    store4(token + 80u, row + 32u, 8u, high5);
    store4(token + 96u, row, 8u, low6);
    store4(token + 96u, row + 32u, 8u, high6);
    store4(token + 112u, row, 8u, low7);
    store4(token + 112u, row + 32u, 8u, high7);
}
