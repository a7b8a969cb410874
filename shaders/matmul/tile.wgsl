// y = x W^T for many tokens: tiles of 64 tokens x 64 rows, 32 columns at a time through workgroup memory.
//
// 128 threads; thread (tx, ty) computes tokens ty + 8 i, i in 0..8, and rows tx + 16 j, j in 0..4. With SMALL, tiles of
// 32 x 32 by 64 threads, i in 0..4 and rows tx + 8 j: four times as many workgroups, for small products on devices with
// many cores. A step takes four octets of every row, in whatever columns they are: x is read in the same columns.
// Tiles hold vectors of four columns, [8 vectors][rows], with the row index scrambled so that neither stores nor loads
// meet in a memory bank. The next step's values are fetched into registers before the products of this one. Quarters of
// the tile without a token are left out. With LORA, y = x W^T + u B^T: the ranks of u and B come behind the columns.
#ifdef SMALL
#define EDGE 32u
#define APART 8u
#define THREADS 64
#define VECTORS 256
#else
#define EDGE 64u
#define APART 16u
#define THREADS 128
#define VECTORS 512
#endif
#import "include/matmul.wgsl"
#ifdef GROUPED
#import "include/grouped_tile.wgsl"
#endif

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> x_tile: array<vec4<f32>, VECTORS>;
var<workgroup> w_tile: array<vec4<f32>, VECTORS>;

#import "include/matmul_tile.wgsl"
#ifdef LORA
#import "include/matmul_tile_lora.wgsl"
#endif

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row0 = workgroup.x * EDGE;
#ifdef GROUPED
    let tile = tiles[workgroup.y];
    let rows = rows_of(tile.x);
    // The same for all threads: no barrier is left waiting.
    if tile.z == 0u || row0 >= rows.y || row0 + EDGE <= rows.x {
        return;
    }
    choose(tile.x);
    tile_end = tile.y + tile.z;
    let token0 = tile.y;
#else
    let token0 = workgroup.y * EDGE;
#endif
    let tokens = tokens_end() - token0;
    // What this thread brings: one octet of two rows and of two tokens.
    let octet = thread % 4u;
    let line = thread / 4u;
    let first_row = weight_row(row0 + line);
    let second_row = weight_row(row0 + line + EDGE / 2u);
    let first_token = x_row(token0 + line);
    let second_token = x_row(token0 + line + EDGE / 2u);
    let slot = octet * 2u * EDGE + (line ^ (octet * 2u));
    let tx = thread % APART;
    let ty = thread / APART;
    var sums0 = vec4<f32>();
    var sums1 = vec4<f32>();
    var sums2 = vec4<f32>();
    var sums3 = vec4<f32>();
#ifndef SMALL
    var sums4 = vec4<f32>();
    var sums5 = vec4<f32>();
    var sums6 = vec4<f32>();
    var sums7 = vec4<f32>();
#endif
    let octets = octets_of_row();
#ifdef LORA
    let vectors = octets * 2u + params.rank / 4u;
    let end = (vectors + 1u) / 2u;
#else
    let end = octets;
#endif
    var w_first = load8(first_row, octet);
    var w_second = load8(second_row, octet);
    var x_first = input(first_token, octet);
    var x_second = input(second_token, octet);
    for (var start = 0u; start < end; start += 4u) {
        x_tile[slot] = x_first.low;
        x_tile[slot + EDGE / 2u] = x_second.low;
        x_tile[slot + EDGE] = x_first.high;
        x_tile[slot + EDGE + EDGE / 2u] = x_second.high;
        w_tile[slot] = w_first.low;
        w_tile[slot + EDGE / 2u] = w_second.low;
        w_tile[slot + EDGE] = w_first.high;
        w_tile[slot + EDGE + EDGE / 2u] = w_second.high;
        workgroupBarrier();
        let next = start + 4u + octet;
        if start + 4u < octets {
            w_first = load8(first_row, next);
            w_second = load8(second_row, next);
            x_first = input(first_token, next);
            x_second = input(second_token, next);
        }
#ifdef LORA
        else if start + 4u < end {
            w_first = b_octet(first_row, next - octets);
            w_second = b_octet(second_row, next - octets);
            x_first = u_octet(first_token, next - octets);
            x_second = u_octet(second_token, next - octets);
        }
#endif
        for (var k = 0u; k < 8u; k++) {
#ifdef LORA
            if start * 2u + k >= vectors {
                break;
            }
#endif
            let wt = k * EDGE + (tx ^ (k & 6u));
            let xt = k * EDGE + (ty ^ (k & 6u));
            let w0 = w_tile[wt];
            let w1 = w_tile[wt + APART];
            let w2 = w_tile[wt + 2u * APART];
            let w3 = w_tile[wt + 3u * APART];
            sums0 = add_products(sums0, x_tile[xt], w0, w1, w2, w3);
            sums1 = add_products(sums1, x_tile[xt + 8u], w0, w1, w2, w3);
            if tokens > 16u {
                sums2 = add_products(sums2, x_tile[xt + 16u], w0, w1, w2, w3);
                sums3 = add_products(sums3, x_tile[xt + 24u], w0, w1, w2, w3);
            }
#ifndef SMALL
            if tokens > 32u {
                sums4 = add_products(sums4, x_tile[xt + 32u], w0, w1, w2, w3);
                sums5 = add_products(sums5, x_tile[xt + 40u], w0, w1, w2, w3);
                sums6 = add_products(sums6, x_tile[xt + 48u], w0, w1, w2, w3);
                sums7 = add_products(sums7, x_tile[xt + 56u], w0, w1, w2, w3);
            }
#endif
        }
        workgroupBarrier();
    }
    let row = row0 + tx;
    let token = token0 + ty;
    store4(token, row, APART, sums0);
    store4(token + 8u, row, APART, sums1);
    store4(token + 16u, row, APART, sums2);
    store4(token + 24u, row, APART, sums3);
#ifndef SMALL
    store4(token + 32u, row, APART, sums4);
    store4(token + 40u, row, APART, sums5);
    store4(token + 48u, row, APART, sums6);
    store4(token + 56u, row, APART, sums7);
#endif
}
