//! Scale and minimum of groups of weights: ggml's `make_qkx2_quants` and `make_qkx3_quants`.

use super::{Lanes, code, importance, lanes, sum_of_squares};
use crate::format::nearest;
use crate::simd::{LANES, Simd};

/// Weights of a group.
pub(in crate::format) const GROUP: usize = 32;

/// What distinguishes one search from another.
pub(in crate::format) struct Grid {
    /// Largest code.
    pub max_code: f32,
    /// What the first trial adds to `max_code`.
    pub first: f32,
    /// What every further trial adds besides.
    pub step: f32,
    /// Trials.
    pub trials: usize,
    /// What is summed up of the differences.
    pub error: Error,
}

/// How a difference between a weight and its decoded value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::format) enum Error {
    /// By its square.
    Squared,
    /// By its magnitude.
    Absolute,
}

/// The grid of every format that has an importance matrix.
pub(in crate::format) const fn weighted(max_code: f32) -> Grid {
    Grid { max_code, first: -0.9, step: 0.05, trials: 37, error: Error::Squared }
}

/// What was found for each group.
#[derive(Default)]
pub(in crate::format) struct Fit {
    /// Scales.
    pub scale: Lanes,
    /// Minima, negated: at least 0.
    pub min: Lanes,
    /// Codes are the integers nearest to `inverse * (x - start)`, within the grid.
    pub inverse: Lanes,
    /// See `inverse`. An accepted minimum is not the one that its codes came from.
    pub start: Lanes,
}

impl Fit {
    /// The codes of the group `x` in lane `lane`.
    pub fn codes<const N: usize>(&self, lane: usize, x: &[f32; N], max_code: f32) -> [u8; N] {
        x.map(|v| nearest(self.inverse[lane] * (v - self.start[lane])).clamp(0.0, max_code) as u8)
    }
}

/// Searches the blocks of 32 weights of a row by `weights`, one value per weight: `put` takes the number of each block
/// with its scale, minimum and codes.
pub(in crate::format) fn blocks(
    row: &[f32],
    weights: &[f32],
    max_code: f32,
    mut put: impl FnMut(usize, f32, f32, [u8; GROUP]),
) {
    let sigma2 = sum_of_squares(row) / row.len() as f32;
    let (groups, listed) = (row.as_chunks::<GROUP>().0, weights.as_chunks::<GROUP>().0);
    for (chunk, (x, listed)) in groups.chunks(LANES).zip(listed.chunks(LANES)).enumerate() {
        let mut w = [[0.0; GROUP]; LANES];
        for (w, (x, listed)) in w.iter_mut().zip(x.iter().zip(listed)) {
            *w = importance(x, listed, sigma2);
        }
        let fit = search32(&lanes(x), &lanes(&w), &weighted(max_code));
        for (lane, x) in x.iter().enumerate() {
            put(chunk * LANES + lane, fit.scale[lane], -fit.min[lane], fit.codes(lane, x, max_code));
        }
    }
}

crate::vectorized! {
    /// Searches sixteen groups `x` of 32 with the weights `w`.
    pub(in crate::format) fn search32(x: &[Lanes; 32], w: &[Lanes; 32], grid: &Grid) -> Fit = body
}

crate::vectorized! {
    /// Searches sixteen groups `x` of 16 with the weights `w`.
    pub(in crate::format) fn search16(x: &[Lanes; 16], w: &[Lanes; 16], grid: &Grid) -> Fit = body
}

/// The scale and (negated) minimum of lowest weighted error. An accepted minimum replaces the one that later
/// trials use, so the order of trials matters.
#[inline(always)]
pub(super) fn body<S: Simd, const N: usize>(simd: S, x: &[Lanes; N], w: &[Lanes; N], grid: &Grid) -> Fit {
    let zero = simd.splat(0.0);
    let (least, max, sum_w, sum_x) = totals(simd, x, w);
    let mut min = simd.select_less(zero, least, zero, least);
    let max_code = simd.splat(grid.max_code);
    let range = simd.sub(max, min);
    let varied = simd.select_less(min, max, simd.splat(1.0), zero);
    let mut inverse = simd.div(max_code, range);
    let mut start = min;
    let mut scale = simd.div(simd.splat(1.0), inverse);
    let mut codes = [[0.0; LANES]; N];
    sums(simd, x, w, inverse, min, max_code, &mut codes);
    let mut best = error(simd, x, w, &codes, (scale, min), grid.error);
    for trial in 0..grid.trials {
        let top = grid.first + grid.step * trial as f32 + grid.max_code;
        let tried = simd.div(simd.splat(top), simd.sub(max, min));
        let [sum_l, sum_l2, sum_xl] = sums(simd, x, w, tried, min, max_code, &mut codes);
        let determinant = simd.sub(simd.mul(sum_w, sum_l2), simd.mul(sum_l, sum_l));
        let new_min = simd.div(simd.sub(simd.mul(sum_l2, sum_x), simd.mul(sum_l, sum_xl)), determinant);
        let new_scale = simd.div(simd.sub(simd.mul(sum_w, sum_xl), simd.mul(sum_x, sum_l)), determinant);
        let new_scale = simd.select_less(zero, new_min, simd.div(sum_xl, sum_l2), new_scale);
        let new_min = simd.select_less(zero, new_min, zero, new_min);
        let new_error = error(simd, x, w, &codes, (new_scale, new_min), grid.error);
        // A singular system is never accepted.
        let new_error = simd.select_less(zero, determinant, new_error, simd.splat(f32::INFINITY));
        scale = simd.select_less(new_error, best, new_scale, scale);
        inverse = simd.select_less(new_error, best, tried, inverse);
        start = simd.select_less(new_error, best, min, start);
        min = simd.select_less(new_error, best, new_min, min);
        best = simd.select_less(new_error, best, new_error, best);
    }
    let mut fit = Fit::default();
    simd.store(simd.select_less(zero, varied, scale, zero), &mut fit.scale);
    // A product, so that 0 becomes -0 as ggml's does.
    simd.store(simd.mul(min, simd.splat(-1.0)), &mut fit.min);
    simd.store(simd.select_less(zero, varied, inverse, zero), &mut fit.inverse);
    simd.store(simd.select_less(zero, varied, start, zero), &mut fit.start);
    fit
}

/// Smallest and largest value, sum of the weights, weighted sum of the values.
#[inline(always)]
fn totals<S: Simd, const N: usize>(simd: S, x: &[Lanes; N], w: &[Lanes; N]) -> (S::V, S::V, S::V, S::V) {
    let first = simd.load(&x[0]);
    let (mut min, mut max, mut sum_w) = (first, first, simd.load(&w[0]));
    let mut sum_x = simd.mul(sum_w, first);
    for i in 1..N {
        let (x, w) = (simd.load(&x[i]), simd.load(&w[i]));
        min = simd.select_less(x, min, x, min);
        max = simd.select_less(max, x, x, max);
        sum_w = simd.add(sum_w, w);
        sum_x = simd.add(sum_x, simd.mul(w, x));
    }
    (min, max, sum_w, sum_x)
}

/// Chooses the codes l and sums w l, w l^2 and w l x.
#[inline(always)]
fn sums<S: Simd, const N: usize>(
    simd: S,
    x: &[Lanes; N],
    w: &[Lanes; N],
    inverse: S::V,
    min: S::V,
    max_code: S::V,
    codes: &mut [Lanes; N],
) -> [S::V; 3] {
    let zero = simd.splat(0.0);
    let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
    for i in 0..N {
        let (x, w) = (simd.load(&x[i]), simd.load(&w[i]));
        let l = code(simd, simd.mul(inverse, simd.sub(x, min)), zero, max_code);
        simd.store(l, &mut codes[i]);
        let wl = simd.mul(w, l);
        sum_l = simd.add(sum_l, wl);
        sum_l2 = simd.add(sum_l2, simd.mul(wl, l));
        sum_xl = simd.add(sum_xl, simd.mul(wl, x));
    }
    [sum_l, sum_l2, sum_xl]
}

/// The weighted error of the codes.
#[inline(always)]
fn error<S: Simd, const N: usize>(
    simd: S,
    x: &[Lanes; N],
    w: &[Lanes; N],
    codes: &[Lanes; N],
    (scale, min): (S::V, S::V),
    counted: Error,
) -> S::V {
    let zero = simd.splat(0.0);
    let mut sum = zero;
    for i in 0..N {
        let decoded = simd.add(simd.mul(scale, simd.load(&codes[i])), min);
        let diff = simd.sub(decoded, simd.load(&x[i]));
        let counts = match counted {
            Error::Squared => simd.mul(diff, diff),
            Error::Absolute => simd.select_less(diff, zero, simd.sub(zero, diff), diff),
        };
        sum = simd.add(sum, simd.mul(simd.load(&w[i]), counts));
    }
    sum
}
