// Dot products of four 8-bit integers. Each octet of a row, of x and of the weight, becomes eight integers from -127 to
// 127 and a factor: its largest value divided by 127. A product of two octets is exact in integers.
#import "include/matmul/no_factors.wgsl"
#import "include/matmul/one_run.wgsl"

struct Cell {
    packed: vec2<u32>,
    factor: f32,
}

// Cells are octets, [STEP][rows].
const CELLS = STEP;
const TOKENS_APART = DOWN;
const COLUMNS_APART = ACROSS;
const HALF_APART = 4u * ACROSS;

var<workgroup> left_tile: array<vec2<u32>, STEP * TOKENS>;
var<workgroup> right_tile: array<vec2<u32>, STEP * COLUMNS>;
var<workgroup> left_factors: array<f32, STEP * TOKENS>;
var<workgroup> right_factors: array<f32, STEP * COLUMNS>;

fn cell_of(octet: Octet) -> Cell {
    // By their bits, so that NaN is the largest of all and stays what it is.
    let size = vec4<u32>(0x7fffffffu);
    let bits = max(bitcast<vec4<u32>>(octet.low) & size, bitcast<vec4<u32>>(octet.high) & size);
    let most = bitcast<f32>(max(max(bits.x, bits.y), max(bits.z, bits.w)));
    let scale = select(0.0, 127.0 / most, most > 1e-36);
    return Cell(
        vec2<u32>(pack4xI8(vec4<i32>(round(octet.low * scale))), pack4xI8(vec4<i32>(round(octet.high * scale)))),
        most / 127.0,
    );
}

fn put_left(values: Octet, thread: u32, i: u32) {
    let at = left_at(thread % STEP, left_line(thread, i));
    let cell = cell_of(values);
    left_tile[at] = cell.packed;
    left_factors[at] = cell.factor;
}

fn put_right(values: Octet, thread: u32, i: u32) {
    let at = right_at(thread % STEP, left_line(thread, i));
    let cell = cell_of(values);
    right_tile[at] = cell.packed;
    right_factors[at] = cell.factor;
}

fn left_at(k: u32, line: u32) -> u32 {
    return k * TOKENS + line;
}

fn right_at(k: u32, line: u32) -> u32 {
    return k * COLUMNS + line;
}

fn left_cell(at: u32) -> Cell {
    return Cell(left_tile[at], left_factors[at]);
}

fn right_cell(at: u32) -> Cell {
    return Cell(right_tile[at], right_factors[at]);
}

fn product(a: Cell, b: Cell) -> i32 {
    return dot4I8Packed(a.packed.x, b.packed.x) + dot4I8Packed(a.packed.y, b.packed.y);
}

// Adds the products of one token with four rows.
fn add_products(sums: vec4<f32>, a: Cell, b0: Cell, b1: Cell, b2: Cell, b3: Cell) -> vec4<f32> {
    let products = vec4<i32>(product(a, b0), product(a, b1), product(a, b2), product(a, b3));
    let factors = vec4<f32>(b0.factor, b1.factor, b2.factor, b3.factor);
    return fma(vec4<f32>(products) * factors, vec4<f32>(a.factor), sums);
}
