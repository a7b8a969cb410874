// y = x W^T for many tokens: tiles of 64 tokens x 64 rows, 32 columns at a time through workgroup memory.
//
// 128 threads; thread (tx, ty) computes tokens ty + 8 i, i in 0..8, and rows tx + 16 j, j in 0..4. A step takes four
// octets of every row, in whatever columns they are: x is read in the same columns. Tiles hold vectors of four columns,
// [8 vectors][64 rows], with the row index scrambled so that neither stores nor loads meet in a memory bank. The next
// step's values are fetched into registers before the products of this one. Quarters of the tile without a token are
// left out.
#import "include/matmul.wgsl"
#ifdef GROUPED
#import "include/grouped_tile.wgsl"
#endif

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> x_tile: array<vec4<f32>, 512>;
var<workgroup> w_tile: array<vec4<f32>, 512>;

#import "include/matmul_tile.wgsl"

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row0 = workgroup.x * 64u;
#ifdef GROUPED
    let tile = tiles[workgroup.y];
    let rows = rows_of(tile.x);
    // The same for all threads: no barrier is left waiting.
    if tile.z == 0u || row0 >= rows.y || row0 + 64u <= rows.x {
        return;
    }
    choose(tile.x);
    tile_end = tile.y + tile.z;
    let token0 = tile.y;
#else
    let token0 = workgroup.y * 64u;
#endif
    let tokens = tokens_end() - token0;
    // What this thread brings: one octet of two rows and of two tokens.
    let octet = thread % 4u;
    let line = thread / 4u;
    let first_row = weight_row(row0 + line);
    let second_row = weight_row(row0 + line + 32u);
    let first_token = x_row(token0 + line);
    let second_token = x_row(token0 + line + 32u);
    let slot = octet * 128u + (line ^ (octet * 2u));
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
    var w_first = load8(first_row, octet);
    var w_second = load8(second_row, octet);
    var x_first = input(first_token, octet);
    var x_second = input(second_token, octet);
    for (var start = 0u; start < octets; start += 4u) {
        x_tile[slot] = x_first.low;
        x_tile[slot + 32u] = x_second.low;
        x_tile[slot + 64u] = x_first.high;
        x_tile[slot + 96u] = x_second.high;
        w_tile[slot] = w_first.low;
        w_tile[slot + 32u] = w_second.low;
        w_tile[slot + 64u] = w_first.high;
        w_tile[slot + 96u] = w_second.high;
        workgroupBarrier();
        if start + 4u < octets {
            let next = start + 4u + octet;
            w_first = load8(first_row, next);
            w_second = load8(second_row, next);
            x_first = input(first_token, next);
            x_second = input(second_token, next);
        }
        for (var k = 0u; k < 8u; k++) {
            let wt = k * 64u + (tx ^ (k & 6u));
            let xt = k * 64u + (ty ^ (k & 6u));
            let w0 = w_tile[wt];
            let w1 = w_tile[wt + 16u];
            let w2 = w_tile[wt + 32u];
            let w3 = w_tile[wt + 48u];
            sums0 = add_products(sums0, x_tile[xt], w0, w1, w2, w3);
            sums1 = add_products(sums1, x_tile[xt + 8u], w0, w1, w2, w3);
            if tokens > 16u {
                sums2 = add_products(sums2, x_tile[xt + 16u], w0, w1, w2, w3);
                sums3 = add_products(sums3, x_tile[xt + 24u], w0, w1, w2, w3);
            }
            if tokens > 32u {
                sums4 = add_products(sums4, x_tile[xt + 32u], w0, w1, w2, w3);
                sums5 = add_products(sums5, x_tile[xt + 40u], w0, w1, w2, w3);
                sums6 = add_products(sums6, x_tile[xt + 48u], w0, w1, w2, w3);
                sums7 = add_products(sums7, x_tile[xt + 56u], w0, w1, w2, w3);
            }
        }
        workgroupBarrier();
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
