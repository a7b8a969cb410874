// What all optimizers share: parameters, clipped gradients, and what they make of the global gradient norm, which is
// binding NORM. It comes as f32 bits: compilers may assume that floats are finite, so the exponent is looked at.
// One thread per parameter. A norm that is not finite changes nothing.
#import "include/fold.wgsl"
#import "include/step.wgsl"

const EXPONENT = 0x7f800000u;

@group(0) @binding(0) var<storage, read_write> weights: array<f32>;
@group(0) @binding(1) var<storage, read> grads: array<f32>;
@group(0) @binding(NORM) var<storage, read> norm: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

// Whether the step counts.
fn counts() -> bool {
    return (norm[0] & EXPONENT) != EXPONENT;
}

// The gradient of a parameter, brought down by the factor that brings the norm down to `step.clip` (0: no clipping).
fn clipped(i: u32) -> f32 {
    if step.clip > 0.0 {
        return grads[i] * min(1.0, step.clip / (bitcast<f32>(norm[0]) + 1e-6));
    }
    return grads[i];
}

fn learning_rate() -> f32 {
    return step.lr * params.lr_factor;
}

// A parameter after weight decay.
fn decayed(i: u32) -> f32 {
    return weights[i] * (1.0 - learning_rate() * params.weight_decay);
}
