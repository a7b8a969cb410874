// Tiles of a transposed product: [TOKENS][VECTORS of four rows] and [rows of the step][vectors of four columns].
const CELLS = VECTORS;
const TOKENS_APART = DOWN * VECTORS;
const COLUMNS_APART = COLUMNS / 4u;
const HALF_APART = ACROSS;

var<workgroup> left_tile: array<Cell, VECTORS * TOKENS>;
var<workgroup> right_tile: array<Cell, STEP * COLUMNS_APART>;

fn put_left(values: vec4<f32>, thread: u32, i: u32) {
    left_tile[thread + i * THREADS] = cell_of_left(values, left_line(thread, i));
}

fn put_right(values: Octet, thread: u32, i: u32) {
    let at = (thread + i * THREADS) * 2u;
    right_tile[at] = cell_of_right(values.low);
    right_tile[at + 1u] = cell_of_right(values.high);
}

fn left_at(k: u32, down: u32) -> u32 {
    return down * VECTORS + k;
}

fn right_at(k: u32, across: u32) -> u32 {
    return k * COLUMNS + across;
}

fn left_cell(at: u32) -> Cell {
    return left_tile[at];
}

fn right_cell(at: u32) -> Cell {
    return right_tile[at];
}
