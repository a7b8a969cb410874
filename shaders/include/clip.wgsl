// What an optimizer makes of the global gradient norm. It comes as f32 bits: compilers may assume that floats are
// finite, so the exponent is looked at.
#import "include/step.wgsl"

const EXPONENT = 0x7f800000u;

// Whether the step counts: a norm that is not finite changes nothing.
fn counts(norm: u32) -> bool {
    return (norm & EXPONENT) != EXPONENT;
}

// The factor that brings the gradients down to the norm `step.clip` (0: no clipping).
fn clip_scale(norm: u32) -> f32 {
    if (step.clip > 0.0) {
        return min(1.0, step.clip / (bitcast<f32>(norm) + 1e-6));
    }
    return 1.0;
}
