// AdamW as torch.optim.AdamW, on clipped gradients, with lr = step.lr * lr_factor:
// w *= 1 - lr * weight_decay; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
// w -= lr * (m / correction1) / (sqrt(v / correction2) + eps). FIRST_BLOCK: a field of the moments of eight bits.
struct Params {
    len: u32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f32,
    lr_factor: f32,
    FIRST_BLOCK: u32,
    pad0: u32,
}

// Moves a parameter and returns its new moments.
fn move_by_moments(i: u32, m: f32, v: f32) -> vec2<f32> {
    let gradient = clipped(i);
    let first = params.beta1 * m + (1.0 - params.beta1) * gradient;
    let second = params.beta2 * v + (1.0 - params.beta2) * gradient * gradient;
    let root = sqrt(second / step.correction2) + params.eps;
    weights[i] = decayed(i) - learning_rate() * (first / step.correction1) / root;
    return vec2<f32>(first, second);
}
