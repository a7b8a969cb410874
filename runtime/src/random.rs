//! Counter-based random numbers: the n-th number of a stream is a function of (seed, stream, n), so there is no state
//! to save and any part can be drawn in any order.

pub use loam_shaders::random::philox;

/// The `index`-th 64 bits of `stream`.
pub fn bits(seed: u64, stream: u32, index: u64) -> u64 {
    let [low, high, ..] = philox(seed, [index as u32, (index >> 32) as u32, stream, 0]);
    u64::from(high) << 32 | u64::from(low)
}

/// The `index`-th number of `stream`, uniform in [0, 1) with 53 bits.
pub fn uniform(seed: u64, stream: u32, index: u64) -> f64 {
    (bits(seed, stream, index) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The `index`-th standard normal number of `stream` (Box and Muller 1958).
pub fn normal(seed: u64, stream: u32, index: u64) -> f64 {
    // 1 - u is in (0, 1].
    let radius = (-2.0 * (1.0 - uniform(seed, stream, 2 * index)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(seed, stream, 2 * index + 1)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_is_in_range_and_not_constant() {
        let values: Vec<f64> = (0..1000).map(|i| uniform(7, 3, i)).collect();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        let mean = values.iter().sum::<f64>() / 1000.0;
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let values: Vec<f64> = (0..10_000).map(|i| normal(7, 3, i)).collect();
        let mean = values.iter().sum::<f64>() / 1e4;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e4;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
