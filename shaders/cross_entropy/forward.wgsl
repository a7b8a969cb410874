// Log-probability of each row's label from z, the soft-capped logits: log_probabilities[offset + i] = z[label] -
// logsumexp(z), 0 for label NONE. With `gradient`, logits[i] becomes (softmax(z) - onehot(label)) * dz/dlogits[i] *
// weights[offset + i] in place, 0 for label NONE: a weight is minus dL/d(log-probability).
// One workgroup per row. Every thread keeps (max, sum of exp(x - max)) of its columns in one pass; a binary tree
// merges the pairs in a fixed order.
#import "include/fold.wgsl"
#import "include/softcap.wgsl"

struct Params {
    rows: u32,
    vocab: u32,
    offset: u32,
    gradient: u32,
    softcap: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

const NONE = 0xffffffffu;
const LOWEST = -3.402823e38;

@group(0) @binding(0) var<storage, read> labels: array<u32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> log_probabilities: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> pairs: array<vec2<f32>, 256>;

fn merge(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    let peak = max(a.x, b.x);
    return vec2<f32>(peak, a.y * exp(a.x - peak) + b.y * exp(b.x - peak));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = folded(workgroup);
    if row >= params.rows {
        return;
    }
    let base = row * params.vocab;
    var pair = vec2<f32>(LOWEST, 0.0);
    for (var i = thread; i < params.vocab; i += 256u) {
        let value = capped(logits[base + i], params.softcap);
        if value > pair.x {
            pair = vec2<f32>(value, pair.y * exp(pair.x - value) + 1.0);
        } else {
            pair.y += exp(value - pair.x);
        }
    }
    pairs[thread] = pair;
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if thread < stride {
            pairs[thread] = merge(pairs[thread], pairs[thread + stride]);
        }
    }
    workgroupBarrier();
    let peak = pairs[0].x;
    let sum = pairs[0].y;
    let label = labels[params.offset + row];
    if thread == 0u {
        var value = 0.0;
        if label != NONE {
            value = capped(logits[base + label], params.softcap) - peak - log(sum);
        }
        log_probabilities[params.offset + row] = value;
    }
    // The log-probability reads a logit that another thread may overwrite below.
    storageBarrier();
    workgroupBarrier();
    if params.gradient == 0u {
        return;
    }
    let inverse = 1.0 / sum;
    let weight = weights[params.offset + row];
    for (var i = thread; i < params.vocab; i += 256u) {
        let value = capped(logits[base + i], params.softcap);
        let softmax = exp(value - peak) * inverse;
        let onehot = select(0.0, 1.0, i == label);
        let gradient = (softmax - onehot) * capped_slope(value, params.softcap) * weight;
        logits[base + i] = select(gradient, 0.0, label == NONE);
    }
}
