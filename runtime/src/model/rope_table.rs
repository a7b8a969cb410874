//! Rotation angles, computed once on the host.

use super::ModelConfig;

/// (cos, sin) for every position below `context` and every rotated pair: f32[context, rotary / 2, 2].
///
/// A table, because WGSL's sin and cos have an absolute error of 2^-11 and only within [-pi, pi]. `factors` are the
/// divisors of `rope_freqs.weight` (llama3 scaling), one per pair.
pub fn rope_table(config: &ModelConfig, context: usize, factors: Option<&[f32]>) -> Vec<f32> {
    let pairs = config.rotary / 2;
    let frequencies: Vec<f64> = (0..pairs)
        .map(|i| {
            // f32 frequencies as Transformers and ggml have them, so that angles at far positions agree.
            let exponent = -2.0 * i as f64 / config.rotary as f64;
            let frequency = f64::from(config.rope_base).powf(exponent) as f32;
            f64::from(frequency / factors.map_or(1.0, |f| f[i]) / config.rope_scale)
        })
        .collect();
    let mut table = Vec::with_capacity(context * pairs * 2);
    for position in 0..context {
        for frequency in &frequencies {
            // The angle is rounded to f32 before the exact sine, again as the reference implementations do.
            let angle = f64::from((position as f64 * frequency) as f32);
            table.push(angle.cos() as f32);
            table.push(angle.sin() as f32);
        }
    }
    table
}
