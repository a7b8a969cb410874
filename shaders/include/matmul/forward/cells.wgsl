// Tiles of a forward product by cells of four columns: [VECTORS][rows], with the row scrambled so that neither stores
// nor loads meet in a memory bank.
const CELLS = VECTORS;
const TOKENS_APART = DOWN;
const COLUMNS_APART = ACROSS;
const HALF_APART = 4u * ACROSS;
const SCRAMBLE = 8u / STEP;

var<workgroup> left_tile: array<Cell, VECTORS * TOKENS>;
var<workgroup> right_tile: array<Cell, VECTORS * COLUMNS>;

// Where the first cell of an octet of a line lies in a tile of so many lines.
fn slot(line: u32, octet: u32, lines: u32) -> u32 {
    return octet * 2u * lines + (line ^ (octet * SCRAMBLE));
}

fn put_left(values: Octet, thread: u32, i: u32) {
    let line = left_line(thread, i);
    let at = slot(line, thread % STEP, TOKENS);
    left_tile[at] = cell_of_left(values.low, line);
    left_tile[at + TOKENS] = cell_of_left(values.high, line);
}

fn put_right(values: Octet, thread: u32, i: u32) {
    let at = slot(left_line(thread, i), thread % STEP, COLUMNS);
    right_tile[at] = cell_of_right(values.low);
    right_tile[at + COLUMNS] = cell_of_right(values.high);
}

fn left_at(k: u32, down: u32) -> u32 {
    return k * TOKENS + (down ^ (k / 2u * SCRAMBLE));
}

fn right_at(k: u32, across: u32) -> u32 {
    return k * COLUMNS + (across ^ (k / 2u * SCRAMBLE));
}

fn left_cell(at: u32) -> Cell {
    return left_tile[at];
}

fn right_cell(at: u32) -> Cell {
    return right_tile[at];
}
