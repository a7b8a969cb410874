//! Finite differences.

/// Compares `gradient` with central differences of `loss` at `x`, coordinate by coordinate, as vectors: the norm of the
/// difference must be at most `tolerance` times the norm of the differences.
///
/// `step` is about the cube root of the precision of `loss` for a curved loss, and may be large for a linear one.
///
/// # Panics
/// If the gradient is further off.
pub fn check_gradient(
    name: &str,
    x: &[f32],
    gradient: &[f32],
    (step, tolerance): (f32, f64),
    loss: impl Fn(&[f32]) -> f64,
) {
    assert_eq!(x.len(), gradient.len(), "{name}: length of the gradient");
    let mut moved = x.to_vec();
    let (mut error, mut norm) = (0.0, 0.0);
    for i in 0..x.len() {
        let (up, down) = (x[i] + step, x[i] - step);
        moved[i] = up;
        let above = loss(&moved);
        moved[i] = down;
        let below = loss(&moved);
        moved[i] = x[i];
        let slope = (above - below) / f64::from(up - down);
        error += (slope - f64::from(gradient[i])).powi(2);
        norm += slope.powi(2);
    }
    let relative = (error / norm).sqrt();
    assert!(relative <= tolerance, "{name}: {relative:.2e} from the finite differences, allowed {tolerance:.0e}");
}
