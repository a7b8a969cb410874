// dx = dy W by tiles: one slab of 64 columns, contracted over rows of the weight. Each weight of a step is decoded
// once.
#import "include/matmul/steps.wgsl"
#import "include/matmul/transposed/operands.wgsl"
#ifdef LORA
#import "include/matmul/transposed/lora.wgsl"
#endif

// Rows of a step.
const STEP = VECTORS * 4u;
// Octets of the weight that a workgroup has.
const SLICE = COLUMNS / 8u;
// Vectors of four gradients that a thread brings for a step.
#define LEFTS 4

// The i-th token of the tile of which a thread brings gradients.
fn left_line(thread: u32, i: u32) -> u32 {
    return thread / VECTORS + i * (THREADS / VECTORS);
}

fn left_row(token: u32) -> u32 {
    return y_row(token);
}

// The i-th row of a step of which a thread brings an octet.
fn right_line(octet0: u32, thread: u32, i: u32) -> u32 {
    return thread / SLICE + i * (THREADS / SLICE);
}

fn load_left(owner: u32, thread: u32, row: u32) -> vec4<f32> {
    return gradients(owner, row + thread % VECTORS * 4u);
}

fn load_right(line: u32, octet0: u32, thread: u32, row: u32) -> Octet {
    return load8(weight_row(row + line), octet0 + thread % SLICE);
}

fn steps_of(rows: vec2<u32>) -> Steps {
#ifdef LORA
    let ranks = (rows.y + STEP - 1u) / STEP * STEP;
    return Steps(rows.x, rows.y, ranks, ranks + params.rank);
#else
    return Steps(rows.x, rows.y, rows.y, rows.y);
#endif
}

// A part without rows of the expert has nothing to add, but the first one writes zeros.
fn has_work(rows: vec2<u32>, octet0: u32) -> bool {
    return params.accumulate == 0u || rows.y != 0u;
}

// Sums of one token and four columns.
fn store4(token0: u32, line: u32, octet0: u32, across: u32, sums: vec4<f32>) {
    let columns = octet_columns(octet0 + across / 2u);
    let column = select(columns.x, columns.y, across % 2u == 1u);
    store(y_row(token0 + line), column, without_factor(sums, line));
}
