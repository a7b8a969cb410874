// AdamW as torch.optim.AdamW, on gradients clipped to the global norm `step.clip` (0: no clipping):
// w *= 1 - lr * weight_decay; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
// w -= lr * (m / correction1) / (sqrt(v / correction2) + eps). A norm that is not finite changes nothing.
// One thread per parameter.
#import "include/fold.wgsl"
#import "include/step.wgsl"

struct Params {
    len: u32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<storage, read_write> weights: array<f32>;
@group(0) @binding(1) var<storage, read> grads: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
// f32 bits: compilers may assume that floats are finite, so the test below looks at the exponent.
@group(0) @binding(4) var<storage, read> norm: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

const EXPONENT = 0x7f800000u;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = folded(group) * 256u + local;
    if (i >= params.len || (norm[0] & EXPONENT) == EXPONENT) {
        return;
    }
    var scale = 1.0;
    if (step.clip > 0.0) {
        scale = min(1.0, step.clip / (bitcast<f32>(norm[0]) + 1e-6));
    }
    let gradient = grads[i] * scale;
    let first = params.beta1 * m[i] + (1.0 - params.beta1) * gradient;
    let second = params.beta2 * v[i] + (1.0 - params.beta2) * gradient * gradient;
    let root = sqrt(second / step.correction2) + params.eps;
    let decayed = weights[i] * (1.0 - step.lr * params.weight_decay);
    weights[i] = decayed - step.lr * (first / step.correction1) / root;
    m[i] = first;
    v[i] = second;
}
