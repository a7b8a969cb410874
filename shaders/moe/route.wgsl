// The `slots` largest logits of every token, largest first (equal ones: lowest expert first), and their softmax, or
// with `over_all` that over all logits. A token with a logit that is NaN has the first experts, and NaN for weights:
// what is wrong with one expert must not be passed over.
// One workgroup per token; each round finds the best pair (logit, expert) after the one that was found before it.
#import "include/fold.wgsl"
#import "include/moe.wgsl"
#import "include/not_a_number.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> weights: array<f32>;

const LOWEST = -3.402823e38;

struct Best {
    logit: f32,
    expert: u32,
}

var<workgroup> best: array<Best, 64>;
var<workgroup> sums: array<f32, 64>;

// Whether a comes before b.
fn before(a: Best, b: Best) -> bool {
    return a.logit > b.logit || (a.logit == b.logit && a.expert < b.expert);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let token = folded(workgroup);
    if token >= params.tokens {
        return;
    }
    var largest = 0.0;
    var total = 0.0;
    sums[thread] = 0.0;
    for (var expert = thread; expert < params.experts; expert += 64u) {
        if is_nan(logits[token * params.experts + expert]) {
            sums[thread] = 1.0;
        }
    }
    for (var stride = 32u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if thread < stride {
            sums[thread] += sums[thread + stride];
        }
    }
    // Of the first thread only, which writes.
    let broken = sums[0] != 0.0;
    var found = Best(-LOWEST, 0u);
    for (var slot = 0u; slot < params.slots; slot++) {
        var mine = Best(LOWEST, NONE);
        for (var expert = thread; expert < params.experts; expert += 64u) {
            let candidate = Best(logits[token * params.experts + expert], expert);
            if (slot == 0u || before(found, candidate)) && before(candidate, mine) {
                mine = candidate;
            }
        }
        best[thread] = mine;
        for (var stride = 32u; stride > 0u; stride >>= 1u) {
            workgroupBarrier();
            if thread < stride && before(best[thread + stride], best[thread]) {
                best[thread] = best[thread + stride];
            }
        }
        found = workgroupUniformLoad(&best[0]);
        if slot == 0u {
            largest = found.logit;
        }
        // None is left where logits are infinite: any expert will do, and the weight shows it.
        let expert = min(found.expert, params.experts - 1u);
        let weight = exp(logits[token * params.experts + expert] - largest);
        total += weight;
        if thread == 0u {
            ids[token * params.slots + slot] = expert;
            weights[token * params.slots + slot] = weight;
        }
    }
    if params.over_all != 0u {
        var sum = 0.0;
        for (var expert = thread; expert < params.experts; expert += 64u) {
            sum += exp(logits[token * params.experts + expert] - largest);
        }
        sums[thread] = sum;
        for (var stride = 32u; stride > 0u; stride >>= 1u) {
            workgroupBarrier();
            if thread < stride {
                sums[thread] += sums[thread + stride];
            }
        }
        if thread == 0u {
            total = sums[0];
        }
    }
    if thread == 0u {
        for (var slot = 0u; slot < params.slots; slot++) {
            weights[token * params.slots + slot] /= total;
            if broken {
                ids[token * params.slots + slot] = slot;
                // No constant: those must be finite.
                weights[token * params.slots + slot] = bitcast<f32>(0x7fc00000u | (params.slots & 0u));
            }
        }
    }
}
