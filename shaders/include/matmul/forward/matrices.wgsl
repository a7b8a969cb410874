// Tiles of a forward product by matrices: [64 rows of the weight][32 columns], 40 apart, four octets per step.
const STEP = 4u;
const RIGHT_APART = 40u;
const RIGHT_TILE = 2560u;
#define LOAD_RIGHT coopLoad
// Values that a thread stores at once.
const STORED = 1u;

fn step_range() -> vec2<u32> {
    return vec2<u32>(0u, octets_of_row());
}

fn fill_tiles(octet0: u32, token0: u32, slice: u32, thread: u32) {
    for (var i = thread; i < TOKENS * 4u; i += LANES) {
        let values = x_octet(x_row(token0 + i / 4u), octet0 + i % 4u);
        put_left(i / 4u, i % 4u * 8u, values.low);
        put_left(i / 4u, i % 4u * 8u + 4u, values.high);
    }
    for (var i = thread; i < 256u; i += LANES) {
        let values = load8(weight_row(slice * 64u + i / 4u), octet0 + i % 4u);
        put_right(i / 4u, i % 4u * 8u, values.low);
        put_right(i / 4u, i % 4u * 8u + 4u, values.high);
    }
}

fn right_at(row: u32, k: u32) -> u32 {
    return row * RIGHT_APART + k;
}

fn store_staged(i: u32, token0: u32, line: u32, row: u32) {
    store(y_row(token0 + line), row, stage[i] * unfactored(line));
}
