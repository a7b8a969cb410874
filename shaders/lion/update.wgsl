// Lion on clipped gradients, with lr = step.lr * lr_factor:
// w = (1 - lr * weight_decay) w - lr * sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g.
// A norm that is not finite changes nothing. One thread per parameter.
#import "include/fold.wgsl"
#import "include/clip.wgsl"

struct Params {
    len: u32,
    beta1: f32,
    beta2: f32,
    weight_decay: f32,
    lr_factor: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<storage, read_write> weights: array<f32>;
@group(0) @binding(1) var<storage, read> grads: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read> norm: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = folded(group) * 256u + local;
    if (i >= params.len || !counts(norm[0])) {
        return;
    }
    let lr = step.lr * params.lr_factor;
    let gradient = grads[i] * clip_scale(norm[0]);
    let direction = params.beta1 * m[i] + (1.0 - params.beta1) * gradient;
    weights[i] = weights[i] * (1.0 - lr * params.weight_decay) - lr * sign(direction);
    m[i] = params.beta2 * m[i] + (1.0 - params.beta2) * gradient;
}
