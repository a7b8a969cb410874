// y = x W^T for one to four tokens: bound by reading the weight once.
//
// A workgroup owns 8 rows, each half of it (32 lanes) 4 of them. Lanes stride over the octets of the rows, so that
// neighbouring lanes read neighbouring words, and hold one sum per row and token. Two stages of sums in a fixed order
// finish.
#import "include/fold.wgsl"
#import "include/matmul.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#ifdef GROUPED
// Expert of every pair.
@group(0) @binding(3) var<storage, read> ids: array<u32>;

var<private> pair: u32;

// A workgroup has one pair.
fn tokens_end() -> u32 {
    return 1u;
}

fn x_row(token: u32) -> u32 {
    return select(NONE, pair / params.slots, token == 0u);
}

fn y_row(token: u32) -> u32 {
    return pair;
}
#endif

// By row and lane; the components are the tokens.
var<workgroup> partial: array<vec4<f32>, 256>;
// By row and run of four lanes.
var<workgroup> quarter: array<vec4<f32>, 64>;

fn input(token: u32, columns: vec2<u32>) -> Octet {
    var values = Octet(vec4<f32>(), vec4<f32>());
    let row = x_row(token);
    if row != NONE {
        if columns.x < params.inner {
            values.low = x[(row * params.inner + columns.x) / 4u];
        }
        if columns.y < params.inner {
            values.high = x[(row * params.inner + columns.y) / 4u];
        }
    }
    return values;
}

fn product(a: Octet, b: Octet) -> f32 {
    return dot(a.low, b.low) + dot(a.high, b.high);
}

fn products(w: Octet, x1: Octet, x2: Octet, x3: Octet) -> vec3<f32> {
    return vec3<f32>(product(w, x1), product(w, x2), product(w, x3));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread % 32u;
    let half = thread / 32u;
#ifdef GROUPED
    let first = workgroup.x * 8u;
    pair = workgroup.y;
    let expert = ids[workgroup.y];
    let rows = rows_of(expert);
    // The same for all threads: no barrier is left waiting.
    if first >= rows.y || first + 8u <= rows.x {
        return;
    }
    choose(expert);
#else
    let first = folded(workgroup) * 8u;
    let rows = row_range();
#endif
    // Rows that are not this part's are not stored.
    let row = first + half * 4u;
    let row0 = weight_row(row);
    let row1 = weight_row(row + 1u);
    let row2 = weight_row(row + 2u);
    let row3 = weight_row(row + 3u);
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    let octets = octets_of_row();
    for (var octet = lane; octet < octets; octet += 32u) {
        let columns = octet_columns(octet);
        let w0 = load8(row0, octet);
        let w1 = load8(row1, octet);
        let w2 = load8(row2, octet);
        let w3 = load8(row3, octet);
        let x0 = input(0u, columns);
        sum0.x += product(w0, x0);
        sum1.x += product(w1, x0);
        sum2.x += product(w2, x0);
        sum3.x += product(w3, x0);
        if tokens_end() > 1u {
            let x1 = input(1u, columns);
            let x2 = input(2u, columns);
            let x3 = input(3u, columns);
            sum0 += vec4<f32>(0.0, products(w0, x1, x2, x3));
            sum1 += vec4<f32>(0.0, products(w1, x1, x2, x3));
            sum2 += vec4<f32>(0.0, products(w2, x1, x2, x3));
            sum3 += vec4<f32>(0.0, products(w3, x1, x2, x3));
        }
    }
    let at = half * 128u + lane;
    partial[at] = sum0;
    partial[at + 32u] = sum1;
    partial[at + 64u] = sum2;
    partial[at + 96u] = sum3;
    workgroupBarrier();
    let run = thread * 4u;
    quarter[thread] = (partial[run] + partial[run + 1u]) + (partial[run + 2u] + partial[run + 3u]);
    workgroupBarrier();
    let row_here = first + thread;
    if thread < 8u && row_here >= rows.x && row_here < rows.y {
        var sum = vec4<f32>();
        for (var i = 0u; i < 8u; i++) {
            sum += quarter[thread * 8u + i];
        }
        for (var token = 0u; token < tokens_end(); token++) {
            let out = y_row(token) * params.stride + y_column(row_here);
            y[out] = select(0.0, y[out], params.accumulate != 0u) + sum[token];
        }
    }
}
