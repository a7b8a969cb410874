// dx = dy W: tiles of 64 tokens x one slab of 64 columns, contracting 32 rows of the weight at a time.
//
// 128 threads; thread (tx, ty) computes tokens ty + 8 i, i in 0..8, and the tx-th vector of the slab's octets. A step
// decodes each weight of 32 rows x 8 octets once, two octets per thread. Quarters of the tile without a token are left
// out. With LORA, dx = dy W + du A: the ranks of du and A come behind the rows.
#import "include/matmul.wgsl"
#ifdef GROUPED
#import "include/grouped_tile.wgsl"
#endif

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;

// [64 tokens][8 vectors of four rows]
var<workgroup> dy_tile: array<vec4<f32>, 512>;
// [32 rows][16 vectors of four columns]
var<workgroup> w_tile: array<vec4<f32>, 512>;

#import "include/matmul_transposed.wgsl"
#ifdef LORA
#import "include/matmul_transposed_lora.wgsl"
#endif

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let octet0 = workgroup.x * 8u;
#ifdef GROUPED
    let tile = tiles[workgroup.y];
    let rows = rows_of(tile.x);
    // The same for all threads: no barrier is left waiting. A part without rows of the expert has nothing to add, but
    // the first one writes zeros.
    if tile.z == 0u || (params.accumulate != 0u && rows.y == 0u) {
        return;
    }
    choose(tile.x);
    tile_end = tile.y + tile.z;
    let token0 = tile.y;
#else
    let rows = row_range();
    let token0 = workgroup.y * 64u;
#endif
    let tokens = tokens_end() - token0;
    // What this thread brings: one octet of two rows, and the gradients of four rows for four tokens.
    let octet = thread % 8u;
    let line = thread / 8u;
    let owner0 = y_row(token0 + line);
    let owner1 = y_row(token0 + line + 16u);
    let owner2 = y_row(token0 + line + 32u);
    let owner3 = y_row(token0 + line + 48u);
    let tx = thread % 16u;
    let ty = thread / 16u;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    var sum4 = vec4<f32>();
    var sum5 = vec4<f32>();
    var sum6 = vec4<f32>();
    var sum7 = vec4<f32>();
    // Gradients of rows past the end are zeros.
    var w_first = load8(weight_row(rows.x + line), octet0 + octet);
    var w_second = load8(weight_row(rows.x + line + 16u), octet0 + octet);
    var d0 = gradients(owner0, rows.x + octet * 4u, rows);
    var d1 = gradients(owner1, rows.x + octet * 4u, rows);
    var d2 = gradients(owner2, rows.x + octet * 4u, rows);
    var d3 = gradients(owner3, rows.x + octet * 4u, rows);
#ifdef LORA
    let ranks = ((rows.y + 31u) / 32u) * 32u;
    let end = ranks + params.rank;
#else
    let end = rows.y;
#endif
    for (var start = rows.x; start < end; start += 32u) {
        w_tile[thread * 2u] = w_first.low;
        w_tile[thread * 2u + 1u] = w_first.high;
        w_tile[thread * 2u + 256u] = w_second.low;
        w_tile[thread * 2u + 257u] = w_second.high;
        dy_tile[thread] = d0;
        dy_tile[thread + 128u] = d1;
        dy_tile[thread + 256u] = d2;
        dy_tile[thread + 384u] = d3;
        workgroupBarrier();
        let next = start + 32u;
        if next < rows.y {
            w_first = load8(weight_row(next + line), octet0 + octet);
            w_second = load8(weight_row(next + line + 16u), octet0 + octet);
            d0 = gradients(owner0, next + octet * 4u, rows);
            d1 = gradients(owner1, next + octet * 4u, rows);
            d2 = gradients(owner2, next + octet * 4u, rows);
            d3 = gradients(owner3, next + octet * 4u, rows);
        }
#ifdef LORA
        else if next < end {
            w_first = a_octet(next - ranks + line, octet0 + octet);
            w_second = a_octet(next - ranks + line + 16u, octet0 + octet);
            d0 = du_vector(owner0, next - ranks + octet * 4u);
            d1 = du_vector(owner1, next - ranks + octet * 4u);
            d2 = du_vector(owner2, next - ranks + octet * 4u);
            d3 = du_vector(owner3, next - ranks + octet * 4u);
        }
#endif
        for (var k = 0u; k < 8u; k++) {
#ifdef LORA
            if start + k * 4u >= end {
                break;
            }
#endif
            let wt = k * 64u + tx;
            let w0 = w_tile[wt];
            let w1 = w_tile[wt + 16u];
            let w2 = w_tile[wt + 32u];
            let w3 = w_tile[wt + 48u];
            let dt = ty * 8u + k;
            sum0 = add_products(sum0, dy_tile[dt], w0, w1, w2, w3);
            sum1 = add_products(sum1, dy_tile[dt + 64u], w0, w1, w2, w3);
            if tokens > 16u {
                sum2 = add_products(sum2, dy_tile[dt + 128u], w0, w1, w2, w3);
                sum3 = add_products(sum3, dy_tile[dt + 192u], w0, w1, w2, w3);
            }
            if tokens > 32u {
                sum4 = add_products(sum4, dy_tile[dt + 256u], w0, w1, w2, w3);
                sum5 = add_products(sum5, dy_tile[dt + 320u], w0, w1, w2, w3);
                sum6 = add_products(sum6, dy_tile[dt + 384u], w0, w1, w2, w3);
                sum7 = add_products(sum7, dy_tile[dt + 448u], w0, w1, w2, w3);
            }
        }
        workgroupBarrier();
    }
    let column = column_of(octet0, tx);
    let out = token0 + ty;
    store(out, column, sum0);
    store(out + 8u, column, sum1);
    store(out + 16u, column, sum2);
    store(out + 24u, column, sum3);
    store(out + 32u, column, sum4);
    store(out + 40u, column, sum5);
    store(out + 48u, column, sum6);
    store(out + 56u, column, sum7);
}
