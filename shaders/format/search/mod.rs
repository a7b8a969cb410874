//! Searches for the scales of groups of weights: what encoders spend their time in.
//!
//! Sixteen groups are searched at once, one in each lane of a vector: value i of all groups lies together ([`lanes`]).
//! A lane does exactly what ggml's scalar loop does, in its order and without fused multiply-adds, so that the bytes
//! are those of llama-quantize on every instruction set.

pub(super) mod affine;
pub(super) mod levels;
pub(super) mod symmetric;

use crate::simd::{LANES, Simd};

/// One value of each of sixteen groups.
pub(super) type Lanes = [f32; LANES];

/// Up to sixteen groups, value by value. Missing ones are zeros, whose result is not used.
pub(super) fn lanes<const N: usize>(groups: &[[f32; N]]) -> [Lanes; N] {
    let mut out = [[0.0; LANES]; N];
    for (lane, group) in groups.iter().enumerate() {
        for (out, value) in out.iter_mut().zip(group) {
            out[lane] = *value;
        }
    }
    out
}

/// The largest magnitude, and the value that has it, the first one on ties.
#[inline(always)]
fn extreme<S: Simd, const N: usize>(simd: S, x: &[Lanes; N]) -> (S::V, S::V) {
    let zero = simd.splat(0.0);
    let (mut most, mut signed) = (zero, zero);
    for x in x {
        let v = simd.load(x);
        let magnitude = simd.select_less(v, zero, simd.sub(zero, v), v);
        signed = simd.select_less(most, magnitude, v, signed);
        most = simd.select_less(most, magnitude, magnitude, most);
    }
    (most, signed)
}

/// The integer nearest to each value, from `low` to `high`.
#[inline(always)]
fn code<S: Simd>(simd: S, value: S::V, low: S::V, high: S::V) -> S::V {
    let nearest = simd.nearest_integer(value);
    let nearest = simd.select_less(nearest, low, low, nearest);
    simd.select_less(high, nearest, high, nearest)
}

/// Weights of importance: `importance * sqrt(sigma2 + x^2)`. `sigma2` is a mean of squares over more than these values.
pub(super) fn importance<const N: usize>(x: &[f32; N], importance: &[f32], sigma2: f32) -> [f32; N] {
    let mut out = [0.0; N];
    for ((out, x), importance) in out.iter_mut().zip(x).zip(importance) {
        *out = importance * (sigma2 + x * x).sqrt();
    }
    out
}

/// The sum of squares in order.
pub(super) fn sum_of_squares(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, v| sum + v * v)
}

#[cfg(test)]
mod tests;
