// y = x W^T by tiles: COLUMNS rows of the weight, contracted over octets of columns, in whatever columns they are.
#import "include/matmul/steps.wgsl"
#import "include/matmul/forward/operands.wgsl"
#ifdef LORA
#import "include/matmul/forward/lora.wgsl"
#endif

// Octets of a step. Neighbouring threads bring those of one row.
const STEP = VECTORS / 2u;
// Rows of the weight that a workgroup has.
const SLICE = COLUMNS;
// Octets of x that a thread brings for a step.
#define LEFTS 2

// The i-th line of a tile that a thread brings.
fn left_line(thread: u32, i: u32) -> u32 {
    return thread / STEP + i * (THREADS / STEP);
}

fn left_row(token: u32) -> u32 {
    return x_row(token);
}

fn right_line(row0: u32, thread: u32, i: u32) -> u32 {
    return weight_row(row0 + left_line(thread, i));
}

fn load_left(row: u32, thread: u32, octet: u32) -> Octet {
    return x_octet(row, octet + thread % STEP);
}

fn load_right(row: u32, row0: u32, thread: u32, octet: u32) -> Octet {
    return load8(row, octet + thread % STEP);
}

fn steps_of(rows: vec2<u32>) -> Steps {
    let octets = octets_of_row();
#ifdef LORA
    return Steps(0u, octets, octets, (octets * 2u + params.rank / 4u + 1u) / 2u);
#else
    return Steps(0u, octets, octets, octets);
#endif
}

// Whether a workgroup has any of these rows.
fn has_work(rows: vec2<u32>, row0: u32) -> bool {
    return row0 < rows.y && row0 + COLUMNS > rows.x;
}

// Sums of one token and four rows that are ACROSS apart.
fn store4(token0: u32, line: u32, row0: u32, across: u32, sums: vec4<f32>) {
    let to = y_row(token0 + line);
    let row = row0 + across;
    let values = without_factor(sums, line);
    store(to, row, values.x);
    store(to, row + ACROSS, values.y);
    store(to, row + 2u * ACROSS, values.z);
    store(to, row + 3u * ACROSS, values.w);
}
