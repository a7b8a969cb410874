// Rows of a quantised embedding. One thread decodes one octet of one token.
#import "include/fold.wgsl"
#define WEIGHT_ROWS params.rows
#define WEIGHT_COLS params.width
#import "format/FORMAT.wgsl"

struct Params {
    tokens: u32,
    width: u32,
    row0: u32,
    rows: u32,
    format: u32,
    scale: f32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let octets = slabs() * 8u;
    let index = folded(workgroup) * 64u + thread;
    let token = index / octets;
    let octet = index % octets;
    if token >= params.tokens {
        return;
    }
    // Ids below row0 wrap around and fail the test too.
    let row = tokens[token] - params.row0;
    if row >= params.rows {
        return;
    }
    let columns = octet_columns(octet);
    let values = load8(row, octet);
    if columns.x < params.width {
        out[(token * params.width + columns.x) / 4u] = values.low * params.scale;
    }
    if columns.y < params.width {
        out[(token * params.width + columns.y) / 4u] = values.high * params.scale;
    }
}
