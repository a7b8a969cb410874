// Matrices that the lanes of a subgroup hold together: products of half precision, summed up in single precision.
//
// Four subgroups compute a tile of TOKENS x 64, each 4 x 2 matrices of SIDE x SIDE of it. Matrices of 16 are tiles of
// 128 tokens with two subgroups across, matrices of 8 tiles of 32 tokens with four across. The backend sets LANES to
// four subgroups of the device's largest size; subgroups beyond the fourth repeat the work of the first ones.
override LANES: u32 = 128u;

#ifdef SIXTEEN
#define MATRIX coop_mat16x16
#define SIDE 16u
#define LINES 128u
#define FACTOR_PARTS 512u
#define LEFT_TILE 5120
#define STAGE 1024u
#define ACROSS 2u
#else
#define MATRIX coop_mat8x8
#define SIDE 8u
#define LINES 32u
#define FACTOR_PARTS 128u
#define LEFT_TILE 1280
#define STAGE 256u
#define ACROSS 4u
#endif

#import "include/half.wgsl"

// [LINES][32 steps of the contraction], 40 apart
var<workgroup> left_tile: array<f16, LEFT_TILE>;
// One matrix of each subgroup on its way out, by row.
var<workgroup> stage: array<f32, STAGE>;

// First line and first column of the matrices of a subgroup.
fn corner(subgroup: u32) -> vec2<u32> {
    let own = subgroup % 4u;
    return vec2<u32>(own / ACROSS * 4u * SIDE, own % ACROSS * 2u * SIDE);
}

fn put_left(line: u32, step: u32, values: vec4<f32>) {
    let at = line * 40u + step;
    let halves = vec4<f16>(values * factors[line]);
    left_tile[at] = halves.x;
    left_tile[at + 1u] = halves.y;
    left_tile[at + 2u] = halves.z;
    left_tile[at + 3u] = halves.w;
}
