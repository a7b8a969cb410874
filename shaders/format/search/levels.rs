//! Scales of groups of 32 weights on the uneven levels of IQ4_NL: ggml's `quantize_row_iq4_nl_impl`.

use super::{Lanes, extreme};
use crate::format::EPSILON;
use crate::format::iq4_nl::VALUES;
use crate::simd::{LANES, Simd};

/// Weights of a group.
pub(in crate::format) const GROUP: usize = 32;

/// The smallest value whose nearest level is the upper one of two neighbours. ggml compares the two distances, which
/// are rounded to f32: it is halfway but for the last bits.
pub(in crate::format) static BOUNDS: std::sync::LazyLock<[f32; 15]> =
    std::sync::LazyLock::new(|| std::array::from_fn(|i| bound(f32::from(VALUES[i]), f32::from(VALUES[i + 1]))));

/// Starts well below halfway, where the lower level is nearer, and goes up bit by bit.
fn bound(below: f32, above: f32) -> f32 {
    let mut value = (below + above) / 2.0;
    for _ in 0..64 {
        value = value.next_down();
    }
    while value - below < above - value {
        value = value.next_up();
    }
    value
}

/// How much each weight's error counts: its square, or by importance. Where no input was ever other than zero,
/// llama.cpp finds no scale and gives up; the weights count as their squares there.
pub(in crate::format) fn weigh(x: &[f32; GROUP], importance: Option<&[f32]>, sigma2: f32) -> [f32; GROUP] {
    match importance {
        Some(list) if list.iter().any(|w| *w > 0.0) => super::importance(x, list, sigma2),
        _ => x.map(|v| v * v),
    }
}

crate::vectorized! {
    /// The scales of sixteen groups `x` with the weights `w`: of least weighted squared error among 16 trials, the
    /// extreme value at level 127, then at -134 to -120.
    pub(in crate::format) fn search(x: &[Lanes; GROUP], w: &[Lanes; GROUP], bounds: &[f32; 15]) -> Lanes = body
}

crate::vectorized! {
    /// The numbers of the levels nearest to `inverse * x`, the upper one on ties.
    pub(in crate::format) fn codes(x: &[Lanes; GROUP], inverse: &Lanes, bounds: &[f32; 15]) -> [Lanes; GROUP] = nearest_levels
}

#[inline(always)]
pub(super) fn nearest_levels<S: Simd>(
    simd: S,
    x: &[Lanes; GROUP],
    inverse: &Lanes,
    bounds: &[f32; 15],
) -> [Lanes; GROUP] {
    let inverse = simd.load(inverse);
    let mut out = [[0.0; LANES]; GROUP];
    for (x, out) in x.iter().zip(&mut out) {
        let value = simd.mul(inverse, simd.load(x));
        let mut code = simd.splat(0.0);
        for (i, bound) in bounds.iter().enumerate() {
            code = simd.select_less(value, simd.splat(*bound), code, simd.splat(i as f32 + 1.0));
        }
        simd.store(code, out);
    }
    out
}

#[inline(always)]
pub(super) fn body<S: Simd>(simd: S, x: &[Lanes; GROUP], w: &[Lanes; GROUP], bounds: &[f32; 15]) -> Lanes {
    let zero = simd.splat(0.0);
    let (magnitude, extreme) = extreme(simd, x);
    let start = simd.div(simd.splat(1.0), simd.div(extreme, simd.splat(127.0)));
    let [sum_qx, sum_q2] = sums(simd, x, w, start, bounds);
    let mut scale = simd.div(sum_qx, sum_q2);
    let mut best = simd.mul(scale, sum_qx);
    for trial in -7i8..=7 {
        let tried = simd.div(simd.splat(f32::from(trial) + f32::from(VALUES[0])), extreme);
        let [sum_qx, sum_q2] = sums(simd, x, w, tried, bounds);
        let square = simd.select_less(zero, sum_q2, simd.mul(sum_qx, sum_qx), simd.splat(f32::NAN));
        let needed = simd.mul(best, sum_q2);
        let new_scale = simd.div(sum_qx, sum_q2);
        scale = simd.select_less(needed, square, new_scale, scale);
        best = simd.select_less(needed, square, simd.mul(new_scale, sum_qx), best);
    }
    let mut out = [0.0; LANES];
    simd.store(simd.select_less(magnitude, simd.splat(EPSILON), zero, scale), &mut out);
    out
}

/// Sums of w q x and w q^2, q being the levels nearest to `inverse * x`.
#[inline(always)]
fn sums<S: Simd>(simd: S, x: &[Lanes; GROUP], w: &[Lanes; GROUP], inverse: S::V, bounds: &[f32; 15]) -> [S::V; 2] {
    let (mut sum_qx, mut sum_q2) = (simd.splat(0.0), simd.splat(0.0));
    for i in 0..GROUP {
        let (x, w) = (simd.load(&x[i]), simd.load(&w[i]));
        let value = simd.mul(inverse, x);
        let mut q = simd.splat(f32::from(VALUES[0]));
        for (bound, level) in bounds.iter().zip(&VALUES[1..]) {
            q = simd.select_less(value, simd.splat(*bound), q, simd.splat(f32::from(*level)));
        }
        let wq = simd.mul(w, q);
        sum_qx = simd.add(sum_qx, simd.mul(wq, x));
        sum_q2 = simd.add(sum_q2, simd.mul(wq, q));
    }
    [sum_qx, sum_q2]
}
