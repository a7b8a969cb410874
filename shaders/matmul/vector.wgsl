// y = x W^T for one to four tokens: bound by reading the weight once.
//
// A workgroup owns 8 rows, each half of it (32 lanes) 4 of them. Lanes stride over the octets of the rows, so that
// neighbouring lanes read neighbouring words, and hold one sum per row and token. Two stages of sums in a fixed order
// finish.
#import "include/fold.wgsl"
#import "include/matmul/weight.wgsl"
#import "include/matmul/forward/operands.wgsl"
#ifdef GROUPED
#import "include/matmul/grouped_pair.wgsl"
#endif

// By row and lane; the components are the tokens.
var<workgroup> partial: array<vec4<f32>, 256>;
// By row and run of four lanes.
var<workgroup> quarter: array<vec4<f32>, 64>;

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
#repeat i in 0..4
    let row{i} = weight_row(row + {i}u);
    var sum{i} = vec4<f32>();
#endrepeat
    let octets = octets_of_row();
    for (var octet = lane; octet < octets; octet += 32u) {
#repeat i in 0..4
        let w{i} = load8(row{i}, octet);
#endrepeat
        let x0 = x_octet(x_row(0u), octet);
#repeat i in 0..4
        sum{i}.x += product(w{i}, x0);
#endrepeat
        if tokens_end() > 1u {
#repeat t in 1..4
            let x{t} = x_octet(x_row({t}u), octet);
#endrepeat
#repeat i in 0..4
            sum{i} += vec4<f32>(0.0, products(w{i}, x1, x2, x3));
#endrepeat
        }
    }
    let at = half * 128u + lane;
#repeat i in 0..4
    partial[at + {i}u * 32u] = sum{i};
#endrepeat
    workgroupBarrier();
    let run = thread * 4u;
    quarter[thread] = (partial[run] + partial[run + 1u]) + (partial[run + 2u] + partial[run + 3u]);
    workgroupBarrier();
    if thread < 8u {
        var sum = vec4<f32>();
        for (var i = 0u; i < 8u; i++) {
            sum += quarter[thread * 8u + i];
        }
        for (var token = 0u; token < tokens_end(); token++) {
            store(y_row(token), first + thread, sum[token]);
        }
    }
}
