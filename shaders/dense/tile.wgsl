// c = a b by tiles of 16 x 16, 32 steps of the contraction at a time through workgroup memory.
//
// Tiles are small because one side of every low-rank product is 8 to 64 wide. 64 threads; thread (tx, ty) computes rows
// ty + 8 i and columns tx + 8 j, i and j in 0..2. Neighbouring threads read along the direction in which an operand is
// contiguous. Rows of the tiles are 33 and 17 words apart, so that both ways of filling them keep off shared banks.
#import "include/dense.wgsl"

// [16 rows][32 steps], 33 apart
var<workgroup> a_tile: array<f32, 528>;
// [32 steps][16 columns], 17 apart
var<workgroup> b_tile: array<f32, 544>;

fn load_a(i0: u32, k0: u32, thread: u32) {
    for (var index = thread; index < 512u; index += 64u) {
        let along_k = params.a_col == 1u;
        let i = select(index % 16u, index / 32u, along_k);
        let k = select(index / 16u, index % 32u, along_k);
        var value = 0.0;
        if i0 + i < params.m && k0 + k < params.k {
            value = left(i0 + i, k0 + k);
        }
        a_tile[i * 33u + k] = value;
    }
}

fn load_b(k0: u32, j0: u32, thread: u32) {
    for (var index = thread; index < 512u; index += 64u) {
        let along_k = params.b_row == 1u;
        let j = select(index % 16u, index / 32u, along_k);
        let k = select(index / 16u, index % 32u, along_k);
        var value = 0.0;
        if j0 + j < params.n && k0 + k < params.k {
            value = right(k0 + k, j0 + j);
        }
        b_tile[k * 17u + j] = value;
    }
}

fn store_inside(i: u32, j: u32, sum: f32) {
    if i < params.m && j < params.n {
        store(i, j, sum);
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    // The y dimension of the grid is folded into z.
    let i0 = (workgroup.y + workgroup.z * 65535u) * 16u;
    let j0 = workgroup.x * 16u;
    let tx = thread % 8u;
    let ty = thread / 8u;
    // Components: (0, 0), (0, 1), (1, 0), (1, 1) of i, j.
    var sums = vec4<f32>();
    for (var k0 = 0u; k0 < params.k; k0 += 32u) {
        load_a(i0, k0, thread);
        load_b(k0, j0, thread);
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {
            let left0 = a_tile[ty * 33u + k];
            let left1 = a_tile[(ty + 8u) * 33u + k];
            let right0 = b_tile[k * 17u + tx];
            let right1 = b_tile[k * 17u + tx + 8u];
            sums += vec4<f32>(left0, left0, left1, left1) * vec4<f32>(right0, right1, right0, right1);
        }
        workgroupBarrier();
    }
    store_inside(i0 + ty, j0 + tx, sums.x);
    store_inside(i0 + ty, j0 + tx + 8u, sums.y);
    store_inside(i0 + ty + 8u, j0 + tx, sums.z);
    store_inside(i0 + ty + 8u, j0 + tx + 8u, sums.w);
}
