//! Loops over slices that several kernels share, compiled for every instruction set.

use super::{LANES, Simd};

/// Values under which [`exp`] is 0 (its result would be subnormal).
const EXP_LOW: f32 = -87.3;
/// Values over which [`exp`] does not look: it is infinite from 88.38 on.
const EXP_HIGH: f32 = 89.0;

/// e^x to 2 units in the last place; plain arithmetic, so that a loop over it becomes vectors. NaN stays NaN.
///
/// `x = n ln 2 + r`, `e^r` by its Taylor polynomial of degree 7 on |r| <= ln 2 / 2, `2^n` as exponent bits.
#[inline(always)]
pub fn exp<S: Simd>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let mul_add = |a: f32, b: f32, c: f32| if S::FUSED { a.mul_add(b, c) } else { a * b + c };
    let bounded = if x > EXP_HIGH { EXP_HIGH } else { x };
    let shifted = mul_add(bounded, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add(n, -LN2_LOW, mul_add(n, -LN2_HIGH, bounded));
    let mut power = mul_add(r, 1.0 / 5040.0, 1.0 / 720.0);
    power = mul_add(power, r, 1.0 / 120.0);
    power = mul_add(power, r, 1.0 / 24.0);
    power = mul_add(power, r, 1.0 / 6.0);
    power = mul_add(power, r, 0.5);
    power = mul_add(power, r, 1.0);
    power = mul_add(power, r, 1.0);
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < EXP_LOW { 0.0 } else { power * scale }
}

/// tanh(x) to 4 units in the last place, for any x; NaN stays NaN.
///
/// Its Taylor polynomial where |x| is small, `(1 - e^(-2|x|)) / (1 + e^(-2|x|))` elsewhere: the difference has no
/// digits left near 0.
#[inline(always)]
pub fn tanh<S: Simd>(x: f32) -> f32 {
    let (size, square) = (x.abs(), x * x);
    let series = -1.0 / 3.0 + square * (2.0 / 15.0 + square * (-17.0 / 315.0 + square * (62.0 / 2835.0)));
    let e = exp::<S>(-2.0 * size);
    let large = ((1.0 - e) / (1.0 + e)).copysign(x);
    if size < 0.25 { x + x * square * series } else { large }
}

/// The maximum; negative infinity of nothing. NaN is passed over: sums over the same slice show it.
#[inline(always)]
pub fn max_body<S: Simd>(_: S, x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (runs, tail) = x.as_chunks::<LANES>();
    for run in runs {
        for (lane, &x) in lanes.iter_mut().zip(run) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

/// `x[i] = exp(scale * x[i] - shift)`; returns the sum, in 16 partial sums.
#[inline(always)]
pub fn exp_sum_body<S: Simd>(simd: S, x: &mut [f32], scale: f32, shift: f32) -> f32 {
    let (runs, tail) = x.as_chunks_mut::<LANES>();
    let mut sums = [0.0; LANES];
    for run in runs {
        for (sum, x) in sums.iter_mut().zip(run) {
            *x = exp::<S>(*x * scale - shift);
            *sum += *x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(tail) {
        *x = exp::<S>(*x * scale - shift);
        *sum += *x;
    }
    simd.sum(simd.load(&sums))
}

/// `sum_i a[i] * b[i]`, in 16 partial sums.
#[inline(always)]
pub fn dot_body<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = simd.splat(0.0);
    for (a, b) in a.iter().zip(b) {
        sums = simd.mul_add(simd.load(a), simd.load(b), sums);
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum();
    simd.sum(sums) + tail
}

/// `sum_i a[i] * b[i] * c[i]`, in 16 partial sums.
#[inline(always)]
pub fn dot3_body<S: Simd>(simd: S, a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let (a_runs, a_tail) = a.as_chunks::<LANES>();
    let ((b_runs, b_tail), (c_runs, c_tail)) = (b.as_chunks::<LANES>(), c.as_chunks::<LANES>());
    let mut sums = simd.splat(0.0);
    for ((a, b), c) in a_runs.iter().zip(b_runs).zip(c_runs) {
        sums = simd.mul_add(simd.mul(simd.load(a), simd.load(b)), simd.load(c), sums);
    }
    let tail: f32 = a_tail.iter().zip(b_tail).zip(c_tail).map(|((a, b), c)| a * b * c).sum();
    simd.sum(sums) + tail
}

/// `y[i] += factor * x[i]`
#[inline(always)]
pub fn add_scaled_body<S: Simd>(simd: S, y: &mut [f32], factor: f32, x: &[f32]) {
    let ((y, y_tail), (x, x_tail)) = (y.as_chunks_mut::<LANES>(), x.as_chunks::<LANES>());
    for (y, x) in y.iter_mut().zip(x) {
        let sum = simd.mul_add(simd.splat(factor), simd.load(x), simd.load(y));
        simd.store(sum, y);
    }
    for (y, x) in y_tail.iter_mut().zip(x_tail) {
        *y += factor * x;
    }
}

crate::vectorized! {
    /// The maximum; negative infinity of nothing. NaN is passed over: sums over the same slice show it.
    pub fn max(x: &[f32]) -> f32 = max_body
}
crate::vectorized! {
    /// `x[i] = exp(scale * x[i] - shift)`; returns the sum.
    pub fn exp_sum(x: &mut [f32], scale: f32, shift: f32) -> f32 = exp_sum_body
}
crate::vectorized! {
    /// `sum_i a[i] * b[i]`
    pub fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body
}
crate::vectorized! {
    /// `sum_i a[i] * b[i] * c[i]`
    pub fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 = dot3_body
}
crate::vectorized! {
    /// `y[i] += factor * x[i]`
    pub fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) = add_scaled_body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere_and_keeps_what_is_no_number() {
        for i in -8_730..=8_830 {
            let x = i as f32 * 0.01 + 0.003;
            let expected = f64::from(x).exp();
            let mut found = [x];
            let sum = exp_sum(&mut found, 1.0, 0.0);
            assert!((f64::from(found[0]) / expected - 1.0).abs() < 3e-7, "exp({x}) = {}, not {expected}", found[0]);
            assert_eq!(sum, found[0]);
        }
        let mut special = [f32::NEG_INFINITY, -88.0, 0.0, 89.5, f32::INFINITY, f32::NAN];
        exp_sum(&mut special, 1.0, 0.0);
        assert_eq!(special[..5], [0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]);
        assert!(special[5].is_nan());
    }

    #[test]
    fn tanh_is_close_everywhere_and_keeps_what_is_no_number() {
        for i in -3_000..=3_000 {
            let x = i as f32 * 0.004 + 1e-5;
            let (expected, found) = (f64::from(x).tanh(), tanh::<crate::simd::Portable>(x));
            assert!((f64::from(found) / expected - 1.0).abs() < 3e-7, "tanh({x}) = {found}, not {expected}");
        }
        let special = [f32::NEG_INFINITY, -200.0, 0.0, 200.0, f32::INFINITY].map(tanh::<crate::simd::Portable>);
        assert_eq!(special, [-1.0, -1.0, 0.0, 1.0, 1.0]);
        assert!(tanh::<crate::simd::Portable>(f32::NAN).is_nan());
    }

    #[test]
    fn loops_take_any_length() {
        for len in [0, 1, 15, 16, 17, 40] {
            let a: Vec<f32> = (0..len).map(|i| (i % 5) as f32 - 1.0).collect();
            let b: Vec<f32> = (0..len).map(|i| (i % 3) as f32 - 2.0).collect();
            let sum = |f: &dyn Fn(usize) -> f32| (0..len).map(f).sum::<f32>();
            assert_eq!(dot(&a, &b), sum(&|i| a[i] * b[i]));
            assert_eq!(dot3(&a, &b, &b), sum(&|i| a[i] * b[i] * b[i]));
            assert_eq!(max(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let mut y = b.clone();
            add_scaled(&mut y, 2.0, &a);
            assert!(y.iter().zip(&a).zip(&b).all(|((y, a), b)| *y == b + 2.0 * a));
        }
    }
}
