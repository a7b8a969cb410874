// Activations of the gated linear unit with their derivatives: (value, derivative) at x.

// 1 / (1 + exp(-x)) without overflow for any x.
fn sigmoid(x: f32) -> f32 {
    let small = exp(-abs(x));
    return select(small, 1.0, x >= 0.0) / (1.0 + small);
}

fn silu(x: f32) -> vec2<f32> {
    let gate = sigmoid(x);
    return vec2<f32>(x * gate, gate * (1.0 + x * (1.0 - gate)));
}

// With 1 + tanh(z) = 2 sigmoid(2z): x * sigmoid(2z), z = sqrt(2 / pi) * (x + 0.044715 x^3). Unlike the built-in
// tanh this keeps its relative precision for negative z and never overflows.
fn gelu_tanh(x: f32) -> vec2<f32> {
    let square = x * x;
    let z = 1.5957691216057308 * x * (1.0 + 0.044715 * square);
    let slope = 1.5957691216057308 * (1.0 + 0.134145 * square);
    let gate = sigmoid(z);
    return vec2<f32>(x * gate, gate + x * gate * sigmoid(-z) * slope);
}

fn activate(kind: u32, x: f32) -> vec2<f32> {
    if kind == 0u {
        return silu(x);
    }
    return gelu_tanh(x);
}
