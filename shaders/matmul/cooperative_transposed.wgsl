// dx = dy W like transposed.wgsl, by the device's matrix units: see include/cooperative.wgsl.
enable f16;
enable wgpu_cooperative_matrix;
#import "include/cooperative.wgsl"
#import "include/matmul.wgsl"

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;

// [32 rows of the weight][64 columns of the slab], 72 apart
var<workgroup> w_tile: array<f16, 2304>;

#import "include/matmul_transposed.wgsl"
#import "include/half_gradients.wgsl"

fn put_weight(row: u32, column: u32, values: vec4<f32>) {
    let at = row * 72u + column;
    let halves = vec4<f16>(values);
    w_tile[at] = halves.x;
    w_tile[at + 1u] = halves.y;
    w_tile[at + 2u] = halves.z;
    w_tile[at + 3u] = halves.w;
}

// Writes one matrix of each subgroup, `down` lines and `across` columns from its corner.
fn put(sums: MATRIX<f32, C>, down: u32, across: u32, token0: u32, column0: u32, subgroup: u32, thread: u32) {
    coopStoreT(sums, &stage[subgroup % 4u * SIDE * SIDE], SIDE);
    workgroupBarrier();
    for (var i = thread * 4u; i < STAGE; i += LANES * 4u) {
        let first = corner(i / (SIDE * SIDE));
        let line = first.x + down + i / SIDE % SIDE;
        let values = vec4<f32>(stage[i], stage[i + 1u], stage[i + 2u], stage[i + 3u]);
        store(token0 + line, column0 + first.y + across + i % SIDE, values * unfactored(line));
    }
    workgroupBarrier();
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let octet0 = workgroup.x * 8u;
    let column0 = workgroup.x * 64u;
    let token0 = workgroup.y * LINES;
    let rows = row_range();
    find_factors(token0, thread, LANES);
    let own = corner(subgroup);
    let left = own.x * 40u;
    let right = own.y;
    var c00 = MATRIX<f32, C>();
    var c01 = MATRIX<f32, C>();
    var c10 = MATRIX<f32, C>();
    var c11 = MATRIX<f32, C>();
    var c20 = MATRIX<f32, C>();
    var c21 = MATRIX<f32, C>();
    var c30 = MATRIX<f32, C>();
    var c31 = MATRIX<f32, C>();
    for (var start = rows.x; start < rows.y; start += 32u) {
        for (var i = thread; i < LINES * 8u; i += LANES) {
            put_left(i / 8u, i % 8u * 4u, gradients(y_row(token0 + i / 8u), start + i % 8u * 4u, rows));
        }
        for (var i = thread; i < 256u; i += LANES) {
            // Gradients of rows past the end are zeros.
            let octet = octet0 + i % 8u;
            let values = load8(weight_row(start + i / 8u), octet);
            let columns = octet_columns(octet) - column0;
            put_weight(i / 8u, columns.x, values.low);
            put_weight(i / 8u, columns.y, values.high);
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += SIDE) {
            let b0 = coopLoadT<MATRIX<f16, B>>(&w_tile[k * 72u + right], 72u);
            let b1 = coopLoadT<MATRIX<f16, B>>(&w_tile[k * 72u + right + SIDE], 72u);
            let a0 = coopLoadT<MATRIX<f16, A>>(&left_tile[left + k], 40u);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            let a1 = coopLoadT<MATRIX<f16, A>>(&left_tile[left + SIDE * 40u + k], 40u);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
            let a2 = coopLoadT<MATRIX<f16, A>>(&left_tile[left + 2u * SIDE * 40u + k], 40u);
            c20 = coopMultiplyAdd(a2, b0, c20);
            c21 = coopMultiplyAdd(a2, b1, c21);
            let a3 = coopLoadT<MATRIX<f16, A>>(&left_tile[left + 3u * SIDE * 40u + k], 40u);
            c30 = coopMultiplyAdd(a3, b0, c30);
            c31 = coopMultiplyAdd(a3, b1, c31);
        }
        workgroupBarrier();
    }
    put(c00, 0u, 0u, token0, column0, subgroup, thread);
    put(c01, 0u, SIDE, token0, column0, subgroup, thread);
    put(c10, SIDE, 0u, token0, column0, subgroup, thread);
    put(c11, SIDE, SIDE, token0, column0, subgroup, thread);
    put(c20, 2u * SIDE, 0u, token0, column0, subgroup, thread);
    put(c21, 2u * SIDE, SIDE, token0, column0, subgroup, thread);
    put(c30, 3u * SIDE, 0u, token0, column0, subgroup, thread);
    put(c31, 3u * SIDE, SIDE, token0, column0, subgroup, thread);
}
