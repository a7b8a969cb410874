// Lion on clipped gradients, with lr = step.lr * lr_factor:
// w = (1 - lr * weight_decay) w - lr * sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g.
#import "include/optimizer.wgsl" NORM=3

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

@group(0) @binding(2) var<storage, read_write> m: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i >= params.len || !counts() {
        return;
    }
    let gradient = clipped(i);
    let direction = params.beta1 * m[i] + (1.0 - params.beta1) * gradient;
    weights[i] = decayed(i) - learning_rate() * sign(direction);
    m[i] = params.beta2 * m[i] + (1.0 - params.beta2) * gradient;
}
