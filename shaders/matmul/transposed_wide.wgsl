// dx = dy W like transposed.wgsl, with the same sums, in tiles of 128 tokens x one slab of 64 columns, contracting 16
// rows of the weight at a time.
//
// 128 threads; thread (tx, ty) computes tokens ty + 16 i, i in 0..8, and the tx-th and (tx + 8)-th vector of the slab's
// octets: 16 vectors from workgroup memory feed 256 products, where transposed.wgsl's 12 feed 128.
#import "include/matmul.wgsl"

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;

// [128 tokens][4 vectors of four rows]
var<workgroup> dy_tile: array<vec4<f32>, 512>;
// [16 rows][16 vectors of four columns]
var<workgroup> w_tile: array<vec4<f32>, 256>;

#import "include/matmul_transposed.wgsl"
#ifdef LORA
#import "include/matmul_transposed_lora.wgsl"
#endif

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let octet0 = workgroup.x * 8u;
    let rows = row_range();
    let token0 = workgroup.y * 128u;
    let tokens = tokens_end() - token0;
    // What this thread brings: one octet of one row, and the gradients of four rows for four tokens.
    let octet = octet0 + thread % 8u;
    let line = thread / 8u;
    let quad = (thread % 4u) * 4u;
    let own = token0 + thread / 4u;
    let owner0 = y_row(own);
    let owner1 = y_row(own + 32u);
    let owner2 = y_row(own + 64u);
    let owner3 = y_row(own + 96u);
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
    // Gradients of rows past the end are zeros.
    var w_own = load8(weight_row(rows.x + line), octet);
    var d0 = gradients(owner0, rows.x + quad, rows);
    var d1 = gradients(owner1, rows.x + quad, rows);
    var d2 = gradients(owner2, rows.x + quad, rows);
    var d3 = gradients(owner3, rows.x + quad, rows);
#ifdef LORA
    let ranks = ((rows.y + 15u) / 16u) * 16u;
    let end = ranks + params.rank;
#else
    let end = rows.y;
#endif
    for (var start = rows.x; start < end; start += 16u) {
        w_tile[thread * 2u] = w_own.low;
        w_tile[thread * 2u + 1u] = w_own.high;
        dy_tile[thread] = d0;
        dy_tile[thread + 128u] = d1;
        dy_tile[thread + 256u] = d2;
        dy_tile[thread + 384u] = d3;
        workgroupBarrier();
        let next = start + 16u;
        if next < rows.y {
            w_own = load8(weight_row(next + line), octet);
            d0 = gradients(owner0, next + quad, rows);
            d1 = gradients(owner1, next + quad, rows);
            d2 = gradients(owner2, next + quad, rows);
            d3 = gradients(owner3, next + quad, rows);
        }
#ifdef LORA
        else if next < end {
            w_own = a_octet(next - ranks + line, octet);
            d0 = du_vector(owner0, next - ranks + quad);
            d1 = du_vector(owner1, next - ranks + quad);
            d2 = du_vector(owner2, next - ranks + quad);
            d3 = du_vector(owner3, next - ranks + quad);
        }
#endif
        for (var k = 0u; k < 4u; k++) {
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
            let w4 = w_tile[wt + 8u];
            let w5 = w_tile[wt + 24u];
            let w6 = w_tile[wt + 40u];
            let w7 = w_tile[wt + 56u];
            let dt = ty * 4u + k;
            let d4 = dy_tile[dt];
            low0 = add_products(low0, d4, w0, w1, w2, w3);
            high0 = add_products(high0, d4, w4, w5, w6, w7);
            let d5 = dy_tile[dt + 64u];
            low1 = add_products(low1, d5, w0, w1, w2, w3);
            high1 = add_products(high1, d5, w4, w5, w6, w7);
            let d6 = dy_tile[dt + 128u];
            low2 = add_products(low2, d6, w0, w1, w2, w3);
            high2 = add_products(high2, d6, w4, w5, w6, w7);
            let d7 = dy_tile[dt + 192u];
            low3 = add_products(low3, d7, w0, w1, w2, w3);
            high3 = add_products(high3, d7, w4, w5, w6, w7);
            if tokens > 64u {
                let d8 = dy_tile[dt + 256u];
                low4 = add_products(low4, d8, w0, w1, w2, w3);
                high4 = add_products(high4, d8, w4, w5, w6, w7);
                let d9 = dy_tile[dt + 320u];
                low5 = add_products(low5, d9, w0, w1, w2, w3);
                high5 = add_products(high5, d9, w4, w5, w6, w7);
                let d10 = dy_tile[dt + 384u];
                low6 = add_products(low6, d10, w0, w1, w2, w3);
                high6 = add_products(high6, d10, w4, w5, w6, w7);
                let d11 = dy_tile[dt + 448u];
                low7 = add_products(low7, d11, w0, w1, w2, w3);
                high7 = add_products(high7, d11, w4, w5, w6, w7);
            }
        }
        workgroupBarrier();
    }
    let low = column_of(octet0, tx);
    let high = column_of(octet0, tx + 8u);
    let out = token0 + ty;
    store(out, low, low0);
    store(out, high, high0);
    store(out + 16u, low, low1);
    store(out + 16u, high, high1);
    store(out + 32u, low, low2);
    store(out + 32u, high, high2);
    store(out + 48u, low, low3);
    store(out + 48u, high, high3);
    store(out + 64u, low, low4);
    store(out + 64u, high, high4);
    store(out + 80u, low, low5);
    store(out + 80u, high, high5);
    store(out + 96u, low, low6);
    store(out + 96u, high, high6);
    store(out + 112u, low, low7);
    store(out + 112u, high, high7);
}
