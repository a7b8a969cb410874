// c = a b by tiles of 32 x 32, 16 steps of the contraction at a time through workgroup memory.
//
// 64 threads; thread (tx, ty) computes rows ty + 8 i and columns tx + 8 j, i and j in 0..4. Neighbouring threads read
// along the direction in which an operand is contiguous. Rows of the tiles are 17 and 33 words apart, so that both ways
// of filling them keep off shared banks. Contractions over a low rank end the inner loop early.
#import "include/dense.wgsl"

// [32 rows][16 steps], 17 apart
var<workgroup> a_tile: array<f32, 544>;
// [16 steps][32 columns], 33 apart
var<workgroup> b_tile: array<f32, 528>;

fn load_a(i0: u32, k0: u32, thread: u32) {
    let along_k = params.a_col == 1u;
    var i = select(thread % 32u, thread / 16u, along_k);
    var k = select(thread / 32u, thread % 16u, along_k);
    let next_i = select(0u, 4u, along_k);
    let next_k = select(2u, 0u, along_k);
    for (var n = 0u; n < 8u; n++) {
        var value = 0.0;
        if i0 + i < params.m && k0 + k < params.k {
            value = left(i0 + i, k0 + k);
        }
        a_tile[i * 17u + k] = value;
        i += next_i;
        k += next_k;
    }
}

fn load_b(k0: u32, j0: u32, thread: u32) {
    let along_k = params.b_row == 1u;
    var j = select(thread % 32u, thread / 16u, along_k);
    var k = select(thread / 32u, thread % 16u, along_k);
    let next_j = select(0u, 4u, along_k);
    let next_k = select(2u, 0u, along_k);
    for (var n = 0u; n < 8u; n++) {
        var value = 0.0;
        if j0 + j < params.n && k0 + k < params.k {
            value = right(k0 + k, j0 + j);
        }
        b_tile[k * 33u + j] = value;
        j += next_j;
        k += next_k;
    }
}

fn store_inside(i: u32, j: u32, sum: f32) {
    if i < params.m && j < params.n {
        store(i, j, sum);
    }
}

fn store4(i: u32, j: u32, sums: vec4<f32>) {
    store_inside(i, j, sums.x);
    store_inside(i, j + 8u, sums.y);
    store_inside(i, j + 16u, sums.z);
    store_inside(i, j + 24u, sums.w);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    // The y dimension of the grid is folded into z.
    let i0 = (workgroup.y + workgroup.z * 65535u) * 32u;
    let j0 = workgroup.x * 32u;
    let tx = thread % 8u;
    let ty = thread / 8u;
    var sums0 = vec4<f32>();
    var sums1 = vec4<f32>();
    var sums2 = vec4<f32>();
    var sums3 = vec4<f32>();
    for (var k0 = 0u; k0 < params.k; k0 += 16u) {
        load_a(i0, k0, thread);
        load_b(k0, j0, thread);
        workgroupBarrier();
        let steps = min(16u, params.k - k0);
        for (var k = 0u; k < steps; k++) {
            let at = ty * 17u + k;
            let bt = k * 33u + tx;
            let right = vec4<f32>(b_tile[bt], b_tile[bt + 8u], b_tile[bt + 16u], b_tile[bt + 24u]);
            sums0 += a_tile[at] * right;
            sums1 += a_tile[at + 136u] * right;
            sums2 += a_tile[at + 272u] * right;
            sums3 += a_tile[at + 408u] * right;
        }
        workgroupBarrier();
    }
    store4(i0 + ty, j0 + tx, sums0);
    store4(i0 + ty + 8u, j0 + tx, sums1);
    store4(i0 + ty + 16u, j0 + tx, sums2);
    store4(i0 + ty + 24u, j0 + tx, sums3);
}
