// y = x W^T like tile.wgsl, multiplied in half precision: half the workgroup memory, and two products per instruction
// on most GPUs.
//
// The tile and its threads are those of tile.wgsl. A sum of eight products is kept in half precision, by column of a
// vector; four of these at a time go into a sum in single precision.
enable f16;
#define LINES 64u
#define FACTOR_PARTS 256u
#import "include/matmul.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// As in tile.wgsl.
var<workgroup> x_tile: array<vec4<f16>, 512>;
var<workgroup> w_tile: array<vec4<f16>, 512>;

#import "include/matmul_tile.wgsl"
#import "include/half.wgsl"
#import "include/half_rows.wgsl"

// Adds the products of one token with four rows, by column.
fn add_halves(
    sums: mat4x4<f16>,
    a: vec4<f16>,
    b0: vec4<f16>,
    b1: vec4<f16>,
    b2: vec4<f16>,
    b3: vec4<f16>,
) -> mat4x4<f16> {
    return mat4x4<f16>(fma(a, b0, sums[0]), fma(a, b1, sums[1]), fma(a, b2, sums[2]), fma(a, b3, sums[3]));
}

fn over_columns(sums: vec4<f16>) -> f32 {
    let pair = sums.xy + sums.zw;
    return f32(pair.x + pair.y);
}

fn over_all_columns(sums: mat4x4<f16>) -> vec4<f32> {
    return vec4<f32>(over_columns(sums[0]), over_columns(sums[1]), over_columns(sums[2]), over_columns(sums[3]));
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row0 = workgroup.x * 64u;
    let token0 = workgroup.y * 64u;
    let tokens = tokens_end() - token0;
    find_factors(token0, thread, 128u);
    // What this thread brings: one octet of two rows and of two tokens.
    let octet = thread % 4u;
    let line = thread / 4u;
    let first_row = weight_row(row0 + line);
    let second_row = weight_row(row0 + line + 32u);
    let first_token = x_row(token0 + line);
    let second_token = x_row(token0 + line + 32u);
    let first_factor = factors[line];
    let second_factor = factors[line + 32u];
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
        x_tile[slot] = vec4<f16>(x_first.low * first_factor);
        x_tile[slot + 32u] = vec4<f16>(x_second.low * second_factor);
        x_tile[slot + 64u] = vec4<f16>(x_first.high * first_factor);
        x_tile[slot + 96u] = vec4<f16>(x_second.high * second_factor);
        w_tile[slot] = vec4<f16>(w_first.low);
        w_tile[slot + 32u] = vec4<f16>(w_second.low);
        w_tile[slot + 64u] = vec4<f16>(w_first.high);
        w_tile[slot + 96u] = vec4<f16>(w_second.high);
        workgroupBarrier();
        if start + 4u < octets {
            let next = start + 4u + octet;
            w_first = load8(first_row, next);
            w_second = load8(second_row, next);
            x_first = input(first_token, next);
            x_second = input(second_token, next);
        }
        var half0 = mat4x4<f16>();
        var half1 = mat4x4<f16>();
        var half2 = mat4x4<f16>();
        var half3 = mat4x4<f16>();
        var half4 = mat4x4<f16>();
        var half5 = mat4x4<f16>();
        var half6 = mat4x4<f16>();
        var half7 = mat4x4<f16>();
        for (var k = 0u; k < 8u; k++) {
            let wt = k * 64u + (tx ^ (k & 6u));
            let xt = k * 64u + (ty ^ (k & 6u));
            let w0 = w_tile[wt];
            let w1 = w_tile[wt + 16u];
            let w2 = w_tile[wt + 32u];
            let w3 = w_tile[wt + 48u];
            half0 = add_halves(half0, x_tile[xt], w0, w1, w2, w3);
            half1 = add_halves(half1, x_tile[xt + 8u], w0, w1, w2, w3);
            if tokens > 16u {
                half2 = add_halves(half2, x_tile[xt + 16u], w0, w1, w2, w3);
                half3 = add_halves(half3, x_tile[xt + 24u], w0, w1, w2, w3);
            }
            if tokens > 32u {
                half4 = add_halves(half4, x_tile[xt + 32u], w0, w1, w2, w3);
                half5 = add_halves(half5, x_tile[xt + 40u], w0, w1, w2, w3);
                half6 = add_halves(half6, x_tile[xt + 48u], w0, w1, w2, w3);
                half7 = add_halves(half7, x_tile[xt + 56u], w0, w1, w2, w3);
            }
        }
        sums0 += over_all_columns(half0);
        sums1 += over_all_columns(half1);
        sums2 += over_all_columns(half2);
        sums3 += over_all_columns(half3);
        sums4 += over_all_columns(half4);
        sums5 += over_all_columns(half5);
        sums6 += over_all_columns(half6);
        sums7 += over_all_columns(half7);
        workgroupBarrier();
    }
    let row = row0 + tx;
    let token = token0 + ty;
    store4(token, row, 16u, sums0 * unfactored(ty));
    store4(token + 8u, row, 16u, sums1 * unfactored(ty + 8u));
    store4(token + 16u, row, 16u, sums2 * unfactored(ty + 16u));
    store4(token + 24u, row, 16u, sums3 * unfactored(ty + 24u));
    store4(token + 32u, row, 16u, sums4 * unfactored(ty + 32u));
    store4(token + 40u, row, 16u, sums5 * unfactored(ty + 40u));
    store4(token + 48u, row, 16u, sums6 * unfactored(ty + 48u));
    store4(token + 56u, row, 16u, sums7 * unfactored(ty + 56u));
}
