// Attention of queries that share no keys, as in decoding, over the keys that PAGED tables lead to: one workgroup of
// 256 threads per head and query, chunks of 256 keys. Scores: 8 threads share a key's dot product, 32 keys at a time,
// so that loads are contiguous. Online softmax over the chunk. Values: a thread owns one vec4 column and every (256 /
// columns)-th key; the partial sums meet at the end. Grid (heads, queries).
#import "include/attention.wgsl"

const COLUMNS = HEAD_DIM / 4u;
const SHARES = 256u / COLUMNS;

@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;

var<workgroup> query: array<vec4<f32>, COLUMNS>;
// Eight partial dot products per key, padded to 9 against bank conflicts.
var<workgroup> partials: array<f32, 2304>;
var<workgroup> weights: array<f32, 256>;
var<workgroup> scratch: array<f32, 256>;
var<workgroup> sums: array<vec4<f32>, 256>;

fn add_partials(sequence: u32, kv_head: u32, first: u32, end: u32, thread: u32) {
    let lane = thread % 8u;
    for (var n = thread / 8u; n < 256u; n += 32u) {
        var partial = 0.0;
        if first + n < end {
            let base = key_base(sequence, first + n, kv_head);
            for (var column = lane; column < params.head_dim / 4u; column += 8u) {
                partial += dot(query[column], k[base + column]);
            }
        }
        partials[n * 9u + lane] = partial;
    }
}

// Largest value of the workgroup.
fn workgroup_max(thread: u32, value: f32) -> f32 {
    scratch[thread] = value;
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if thread < stride {
            scratch[thread] = max(scratch[thread], scratch[thread + stride]);
        }
    }
    return workgroupUniformLoad(&scratch[0]);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = workgroup.x;
    let row = workgroup.y;
    let sequence = sequence_of(row);
    let kv_head = head / (params.heads / params.kv_heads);
    let vectors = params.head_dim / 4u;
    let column = thread % COLUMNS;
    let share = thread / COLUMNS;
    if thread < vectors {
        query[thread] = q[query_base(sequence, row, head) + thread];
    }
    workgroupBarrier();
    var m = LOWEST;
    var l = 0.0;
    var mean = vec4<f32>();
    let range = visible(sequence, row);
    for (var first = range.x; first < range.y; first += 256u) {
        add_partials(sequence, kv_head, first, range.y, thread);
        workgroupBarrier();
        var score = 0.0;
        for (var n = 0u; n < 8u; n++) {
            score += partials[thread * 9u + n];
        }
        let seen = first + thread < range.y;
        score = select(LOWEST, score_of(score), seen);
        let new_m = max(m, workgroup_max(thread, score));
        let factor = exp(m - new_m);
        m = new_m;
        let p = select(0.0, exp(score - m), seen);
        l = l * factor + p;
        mean *= factor;
        weights[thread] = p;
        workgroupBarrier();
        if column < vectors {
            let count = min(256u, range.y - first);
            for (var n = share; n < count; n += SHARES) {
                mean += weights[n] * v[key_base(sequence, first + n, kv_head) + column];
            }
        }
    }
    sums[thread] = mean;
    scratch[thread] = l;
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if thread < stride {
            scratch[thread] += scratch[thread + stride];
            if stride >= COLUMNS {
                sums[thread] += sums[thread + stride];
            }
        }
    }
    workgroupBarrier();
    l = scratch[0];
    // A sum that is no number is not none: it has to reach the result.
    let none = l == 0.0;
    if thread < vectors {
        out[query_base(sequence, row, head) + thread] = sums[thread] * select(1.0 / l, 0.0, none);
    }
}
