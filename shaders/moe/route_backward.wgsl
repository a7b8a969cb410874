// Gradient of the routing weights with respect to the logits: of the softmax over the chosen ones,
// w_j * (dw_j - sum_i w_i dw_i), and 0 for the others; of the softmax over all (`over_all`) -p * sum_i w_i dw_i for the
// others, with p from the first chosen one's weight. One thread per logit.
#import "include/fold.wgsl"
#import "include/moe.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> dweights: array<f32>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i >= params.tokens * params.experts {
        return;
    }
    let first = i / params.experts * params.slots;
    var mean = 0.0;
    var chosen = NONE;
    for (var pair = first; pair < first + params.slots; pair++) {
        mean += weights[pair] * dweights[pair];
        if ids[pair] == i % params.experts {
            chosen = pair;
        }
    }
    var gradient = 0.0;
    if chosen != NONE {
        gradient = weights[chosen] * (dweights[chosen] - mean);
    } else if params.over_all != 0u {
        let top = i / params.experts * params.experts + ids[first];
        gradient = -weights[first] * exp(logits[i] - logits[top]) * mean;
    }
    dlogits[i] = gradient;
}
