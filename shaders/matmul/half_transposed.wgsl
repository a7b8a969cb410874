// dx = dy W like transposed.wgsl, multiplied in half precision: a sum of 16 products is kept in half precision, then
// goes into one in single precision.
enable f16;
#define LINES 64u
#define FACTOR_PARTS 256u
#import "include/matmul.wgsl"

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;

// As in transposed.wgsl.
var<workgroup> dy_tile: array<vec4<f16>, 512>;
var<workgroup> w_tile: array<vec4<f16>, 512>;

#import "include/matmul_transposed.wgsl"
#import "include/half.wgsl"
#import "include/half_gradients.wgsl"

fn add_halves(
    sum: vec4<f16>,
    d: vec4<f16>,
    w0: vec4<f16>,
    w1: vec4<f16>,
    w2: vec4<f16>,
    w3: vec4<f16>,
) -> vec4<f16> {
    return fma(vec4<f16>(d.w), w3, fma(vec4<f16>(d.z), w2, fma(vec4<f16>(d.y), w1, fma(vec4<f16>(d.x), w0, sum))));
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let octet0 = workgroup.x * 8u;
    let rows = row_range();
    let token0 = workgroup.y * 64u;
    let tokens = tokens_end() - token0;
    find_factors(token0, thread, 128u);
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
    for (var start = rows.x; start < rows.y; start += 32u) {
        w_tile[thread * 2u] = vec4<f16>(w_first.low);
        w_tile[thread * 2u + 1u] = vec4<f16>(w_first.high);
        w_tile[thread * 2u + 256u] = vec4<f16>(w_second.low);
        w_tile[thread * 2u + 257u] = vec4<f16>(w_second.high);
        dy_tile[thread] = vec4<f16>(d0 * factors[line]);
        dy_tile[thread + 128u] = vec4<f16>(d1 * factors[line + 16u]);
        dy_tile[thread + 256u] = vec4<f16>(d2 * factors[line + 32u]);
        dy_tile[thread + 384u] = vec4<f16>(d3 * factors[line + 48u]);
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
        for (var run = 0u; run < 8u; run += 4u) {
            var half0 = vec4<f16>();
            var half1 = vec4<f16>();
            var half2 = vec4<f16>();
            var half3 = vec4<f16>();
            var half4 = vec4<f16>();
            var half5 = vec4<f16>();
            var half6 = vec4<f16>();
            var half7 = vec4<f16>();
            for (var k = run; k < run + 4u; k++) {
                let wt = k * 64u + tx;
                let w0 = w_tile[wt];
                let w1 = w_tile[wt + 16u];
                let w2 = w_tile[wt + 32u];
                let w3 = w_tile[wt + 48u];
                let dt = ty * 8u + k;
                half0 = add_halves(half0, dy_tile[dt], w0, w1, w2, w3);
                half1 = add_halves(half1, dy_tile[dt + 64u], w0, w1, w2, w3);
                if tokens > 16u {
                    half2 = add_halves(half2, dy_tile[dt + 128u], w0, w1, w2, w3);
                    half3 = add_halves(half3, dy_tile[dt + 192u], w0, w1, w2, w3);
                }
                if tokens > 32u {
                    half4 = add_halves(half4, dy_tile[dt + 256u], w0, w1, w2, w3);
                    half5 = add_halves(half5, dy_tile[dt + 320u], w0, w1, w2, w3);
                    half6 = add_halves(half6, dy_tile[dt + 384u], w0, w1, w2, w3);
                    half7 = add_halves(half7, dy_tile[dt + 448u], w0, w1, w2, w3);
                }
            }
            sum0 += vec4<f32>(half0);
            sum1 += vec4<f32>(half1);
            sum2 += vec4<f32>(half2);
            sum3 += vec4<f32>(half3);
            sum4 += vec4<f32>(half4);
            sum5 += vec4<f32>(half5);
            sum6 += vec4<f32>(half6);
            sum7 += vec4<f32>(half7);
        }
        workgroupBarrier();
    }
    let column = column_of(octet0, tx);
    let out = token0 + ty;
    store(out, column, sum0 * unfactored(ty));
    store(out + 8u, column, sum1 * unfactored(ty + 8u));
    store(out + 16u, column, sum2 * unfactored(ty + 16u));
    store(out + 24u, column, sum3 * unfactored(ty + 24u));
    store(out + 32u, column, sum4 * unfactored(ty + 32u));
    store(out + 40u, column, sum5 * unfactored(ty + 40u));
    store(out + 48u, column, sum6 * unfactored(ty + 48u));
    store(out + 56u, column, sum7 * unfactored(ty + 56u));
}
