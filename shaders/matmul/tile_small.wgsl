// y = x W^T like tile.wgsl, with the same sums, in tiles of 32 tokens x 32 rows, 32 columns at a time.
//
// 64 threads; thread (tx, ty) computes tokens ty + 8 i and rows tx + 8 j, i and j in 0..4. Four times as many
// workgroups as tile.wgsl: for small products on devices with many cores.
#import "include/matmul.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// [8 vectors][32 tokens] and [8 vectors][32 rows], scrambled as in tile.wgsl.
var<workgroup> x_tile: array<vec4<f32>, 256>;
var<workgroup> w_tile: array<vec4<f32>, 256>;

#import "include/matmul_tile.wgsl"

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row0 = workgroup.x * 32u;
    let token0 = workgroup.y * 32u;
    // What this thread brings: one octet of two rows and of two tokens.
    let octet = thread % 4u;
    let line = thread / 4u;
    let first_row = weight_row(row0 + line);
    let second_row = weight_row(row0 + line + 16u);
    let first_token = x_row(token0 + line);
    let second_token = x_row(token0 + line + 16u);
    let slot = octet * 64u + (line ^ (octet * 2u));
    let tx = thread % 8u;
    let ty = thread / 8u;
    var sums0 = vec4<f32>();
    var sums1 = vec4<f32>();
    var sums2 = vec4<f32>();
    var sums3 = vec4<f32>();
    let octets = octets_of_row();
    var w_first = load8(first_row, octet);
    var w_second = load8(second_row, octet);
    var x_first = input(first_token, octet);
    var x_second = input(second_token, octet);
    for (var start = 0u; start < octets; start += 4u) {
        x_tile[slot] = x_first.low;
        x_tile[slot + 16u] = x_second.low;
        x_tile[slot + 32u] = x_first.high;
        x_tile[slot + 48u] = x_second.high;
        w_tile[slot] = w_first.low;
        w_tile[slot + 16u] = w_second.low;
        w_tile[slot + 32u] = w_first.high;
        w_tile[slot + 48u] = w_second.high;
        workgroupBarrier();
        if start + 4u < octets {
            let next = start + 4u + octet;
            w_first = load8(first_row, next);
            w_second = load8(second_row, next);
            x_first = input(first_token, next);
            x_second = input(second_token, next);
        }
        for (var k = 0u; k < 8u; k++) {
            let wt = k * 32u + (tx ^ (k & 6u));
            let xt = k * 32u + (ty ^ (k & 6u));
            let w0 = w_tile[wt];
            let w1 = w_tile[wt + 8u];
            let w2 = w_tile[wt + 16u];
            let w3 = w_tile[wt + 24u];
            sums0 = add_products(sums0, x_tile[xt], w0, w1, w2, w3);
            sums1 = add_products(sums1, x_tile[xt + 8u], w0, w1, w2, w3);
            sums2 = add_products(sums2, x_tile[xt + 16u], w0, w1, w2, w3);
            sums3 = add_products(sums3, x_tile[xt + 24u], w0, w1, w2, w3);
        }
        workgroupBarrier();
    }
    let row = row0 + tx;
    let token = token0 + ty;
    store4(token, row, 8u, sums0);
    store4(token + 8u, row, 8u, sums1);
    store4(token + 16u, row, 8u, sums2);
    store4(token + 24u, row, 8u, sums3);
}
