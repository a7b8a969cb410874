// y = x W^T like tile.wgsl, by the device's matrix units: see include/cooperative.wgsl.
enable f16;
enable wgpu_cooperative_matrix;
#import "include/cooperative.wgsl"
#import "include/matmul.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// [64 rows][32 steps], 40 apart
var<workgroup> w_tile: array<f16, 2560>;

#import "include/matmul_tile.wgsl"
#import "include/half_rows.wgsl"

fn put_weight(row: u32, step: u32, values: vec4<f32>) {
    let at = row * 40u + step;
    let halves = vec4<f16>(values);
    w_tile[at] = halves.x;
    w_tile[at + 1u] = halves.y;
    w_tile[at + 2u] = halves.z;
    w_tile[at + 3u] = halves.w;
}

// Writes one matrix of each subgroup, `down` lines and `across` rows from its corner.
fn put(sums: MATRIX<f32, C>, down: u32, across: u32, token0: u32, row0: u32, subgroup: u32, thread: u32) {
    coopStoreT(sums, &stage[subgroup % 4u * SIDE * SIDE], SIDE);
    workgroupBarrier();
    for (var i = thread; i < STAGE; i += LANES) {
        let first = corner(i / (SIDE * SIDE));
        let line = first.x + down + i / SIDE % SIDE;
        store(y_row(token0 + line), row0 + first.y + across + i % SIDE, stage[i] * unfactored(line));
    }
    workgroupBarrier();
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let row0 = workgroup.x * 64u;
    let token0 = workgroup.y * LINES;
    find_factors(token0, thread, LANES);
    let own = corner(subgroup);
    let left = own.x * 40u;
    let right = own.y * 40u;
    var c00 = MATRIX<f32, C>();
    var c01 = MATRIX<f32, C>();
    var c10 = MATRIX<f32, C>();
    var c11 = MATRIX<f32, C>();
    var c20 = MATRIX<f32, C>();
    var c21 = MATRIX<f32, C>();
    var c30 = MATRIX<f32, C>();
    var c31 = MATRIX<f32, C>();
    let octets = octets_of_row();
    for (var start = 0u; start < octets; start += 4u) {
        for (var i = thread; i < LINES * 4u; i += LANES) {
            let values = input(x_row(token0 + i / 4u), start + i % 4u);
            put_left(i / 4u, i % 4u * 8u, values.low);
            put_left(i / 4u, i % 4u * 8u + 4u, values.high);
        }
        for (var i = thread; i < 256u; i += LANES) {
            let values = load8(weight_row(row0 + i / 4u), start + i % 4u);
            put_weight(i / 4u, i % 4u * 8u, values.low);
            put_weight(i / 4u, i % 4u * 8u + 4u, values.high);
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += SIDE) {
            let b0 = coopLoad<MATRIX<f16, B>>(&w_tile[right + k], 40u);
            let b1 = coopLoad<MATRIX<f16, B>>(&w_tile[right + SIDE * 40u + k], 40u);
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
    put(c00, 0u, 0u, token0, row0, subgroup, thread);
    put(c01, 0u, SIDE, token0, row0, subgroup, thread);
    put(c10, SIDE, 0u, token0, row0, subgroup, thread);
    put(c11, SIDE, SIDE, token0, row0, subgroup, thread);
    put(c20, 2u * SIDE, 0u, token0, row0, subgroup, thread);
    put(c21, 2u * SIDE, SIDE, token0, row0, subgroup, thread);
    put(c30, 3u * SIDE, 0u, token0, row0, subgroup, thread);
    put(c31, 3u * SIDE, SIDE, token0, row0, subgroup, thread);
}
