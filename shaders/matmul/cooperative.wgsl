// Products with a weight like tile.wgsl, by the device's matrix units: matrices that the lanes of a subgroup hold
// together, multiplied in half precision and summed up in single precision.
//
// Four subgroups compute a tile of TOKENS x 64, each 4 x 2 matrices of SIDE x SIDE of it, 32 steps of the contraction
// at a time. The backend sets LANES to four subgroups of the device's largest size; subgroups beyond the fourth repeat
// the work of the first ones.
enable f16;
enable wgpu_cooperative_matrix;
override LANES: u32 = 128u;
#define THREADS LANES
#import "include/matmul/matrices/SIDES.wgsl"
#import "include/matmul/weight.wgsl"
#import "include/matmul/DIRECTION/operands.wgsl"
#import "include/matmul/DIRECTION/factors.wgsl"
#import "include/matmul/DIRECTION/matrices.wgsl"

// [TOKENS][32 steps of the contraction], 40 apart
var<workgroup> left_tile: array<f16, 40u * TOKENS>;
var<workgroup> right_tile: array<f16, RIGHT_TILE>;
// One matrix of each subgroup on its way out, by row.
var<workgroup> stage: array<f32, 4u * SIDE * SIDE>;

// First line and first column of the matrices of a subgroup.
fn corner(subgroup: u32) -> vec2<u32> {
    let own = subgroup % 4u;
    return vec2<u32>(own / ACROSS * 4u * SIDE, own % ACROSS * 2u * SIDE);
}

fn put_left(line: u32, step: u32, values: vec4<f32>) {
    let at = line * 40u + step;
    let halves = vec4<f16>(values * factors[line]);
#repeat i in 0..4
    left_tile[at + {i}u] = halves[{i}];
#endrepeat
}

fn put_right(line: u32, column: u32, values: vec4<f32>) {
    let at = line * RIGHT_APART + column;
    let halves = vec4<f16>(values);
#repeat i in 0..4
    right_tile[at + {i}u] = halves[{i}];
#endrepeat
}

// Writes one matrix of each subgroup, `down` lines and `across` columns from its corner.
fn put(sums: MATRIX<f32, C>, down: u32, across: u32, token0: u32, slice: u32, subgroup: u32, thread: u32) {
    coopStoreT(sums, &stage[subgroup % 4u * SIDE * SIDE], SIDE);
    workgroupBarrier();
    for (var i = thread * STORED; i < 4u * SIDE * SIDE; i += LANES * STORED) {
        let first = corner(i / (SIDE * SIDE));
        store_staged(i, token0, first.x + down + i / SIDE % SIDE, slice * 64u + first.y + across + i % SIDE);
    }
    workgroupBarrier();
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let token0 = workgroup.y * TOKENS;
    find_factors(token0, thread);
    let own = corner(subgroup);
#repeat i in 0..4
#repeat j in 0..2
    var sum{i}{j} = MATRIX<f32, C>();
#endrepeat
#endrepeat
    let steps = step_range();
    for (var start = steps.x; start < steps.y; start += STEP) {
        fill_tiles(start, token0, workgroup.x, thread);
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += SIDE) {
#repeat j in 0..2
            let right{j} = LOAD_RIGHT<MATRIX<f16, B>>(&right_tile[right_at(own.y + {j}u * SIDE, k)], RIGHT_APART);
#endrepeat
#repeat i in 0..4
            let left{i} = coopLoadT<MATRIX<f16, A>>(&left_tile[(own.x + {i}u * SIDE) * 40u + k], 40u);
#repeat j in 0..2
            sum{i}{j} = coopMultiplyAdd(left{i}, right{j}, sum{i}{j});
#endrepeat
#endrepeat
        }
        workgroupBarrier();
    }
#repeat i in 0..4
#repeat j in 0..2
    put(sum{i}{j}, {i}u * SIDE, {j}u * SIDE, token0, workgroup.x, subgroup, thread);
#endrepeat
#endrepeat
}
