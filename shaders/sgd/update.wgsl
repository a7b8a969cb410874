// SGD on clipped gradients, with lr = step.lr * lr_factor: w = (1 - lr * weight_decay) w - lr * g, with MOMENTUM
// m = momentum m + g in the place of g.
#import "include/optimizer.wgsl" NORM=2

struct Params {
    len: u32,
    momentum: f32,
    weight_decay: f32,
    lr_factor: f32,
}

#ifdef MOMENTUM
@group(0) @binding(3) var<storage, read_write> m: array<f32>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i >= params.len || !counts() {
        return;
    }
    var moved = clipped(i);
#ifdef MOMENTUM
    moved += params.momentum * m[i];
    m[i] = moved;
#endif
    weights[i] = decayed(i) - learning_rate() * moved;
}
