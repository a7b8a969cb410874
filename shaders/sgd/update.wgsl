// SGD on clipped gradients, with lr = step.lr * lr_factor: w = (1 - lr * weight_decay) w - lr * g, with MOMENTUM
// m = momentum m + g in the place of g. A norm that is not finite changes nothing. One thread per parameter.
#import "include/fold.wgsl"
#import "include/clip.wgsl"

struct Params {
    len: u32,
    momentum: f32,
    weight_decay: f32,
    lr_factor: f32,
}

@group(0) @binding(0) var<storage, read_write> weights: array<f32>;
@group(0) @binding(1) var<storage, read> grads: array<f32>;
@group(0) @binding(2) var<storage, read> norm: array<u32>;
#ifdef MOMENTUM
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
#endif
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = folded(group) * 256u + local;
    if (i >= params.len || !counts(norm[0])) {
        return;
    }
    let lr = step.lr * params.lr_factor;
    var moved = grads[i] * clip_scale(norm[0]);
#ifdef MOMENTUM
    moved += params.momentum * m[i];
    m[i] = moved;
#endif
    weights[i] = weights[i] * (1.0 - lr * params.weight_decay) - lr * moved;
}
