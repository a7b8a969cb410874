// Tiles of a transposed product by matrices: [32 rows of the weight][64 columns of the slab], 72 apart, 32 rows per
// step.
const STEP = 32u;
const RIGHT_APART = 72u;
const RIGHT_TILE = 2304u;
#define LOAD_RIGHT coopLoadT
// Values that a thread stores at once.
const STORED = 4u;

fn step_range() -> vec2<u32> {
    return row_range();
}

fn fill_tiles(row0: u32, token0: u32, slab: u32, thread: u32) {
    for (var i = thread; i < TOKENS * 8u; i += LANES) {
        put_left(i / 8u, i % 8u * 4u, gradients(y_row(token0 + i / 8u), row0 + i % 8u * 4u));
    }
    for (var i = thread; i < 256u; i += LANES) {
        // Gradients of rows past the end are zeros.
        let octet = slab * 8u + i % 8u;
        let values = load8(weight_row(row0 + i / 8u), octet);
        let columns = octet_columns(octet) - slab * 64u;
        put_right(i / 8u, columns.x, values.low);
        put_right(i / 8u, columns.y, values.high);
    }
}

fn right_at(column: u32, k: u32) -> u32 {
    return k * RIGHT_APART + column;
}

fn store_staged(i: u32, token0: u32, line: u32, column: u32) {
    let values = vec4<f32>(stage[i], stage[i + 1u], stage[i + 2u], stage[i + 3u]);
    store(y_row(token0 + line), column, values * unfactored(line));
}
