//! Scales of groups without a minimum: ggml's `make_qx_quants` with `rmse_type` 1.

use super::{Lanes, code, extreme, importance, lanes, sum_of_squares};
use crate::format::{EPSILON, nearest};
use crate::simd::{LANES, Simd};

/// What was found for each group.
#[derive(Default)]
pub(in crate::format) struct Fit {
    /// Scales.
    pub scale: Lanes,
    /// Codes are the integers nearest to `inverse * x`, within the range; 0 for a group of zeros only.
    pub inverse: Lanes,
}

impl Fit {
    /// The codes, from 0 on, of the group `x` in lane `lane`. A group of zeros only has the codes 0, as in ggml.
    pub fn codes<const N: usize>(&self, lane: usize, x: &[f32; N], most: f32) -> [u8; N] {
        let inverse = self.inverse[lane];
        if inverse == 0.0 {
            return [0; N];
        }
        x.map(|v| (nearest(inverse * v).clamp(-most, most - 1.0) + most) as u8)
    }
}

/// Searches the blocks of 32 weights of a row by `weights`, one value per weight: `put` takes the number of each block
/// with its scale and codes.
pub(in crate::format) fn blocks(row: &[f32], weights: &[f32], most: f32, mut put: impl FnMut(usize, f32, [u8; 32])) {
    let sigma2 = sum_of_squares(row) / row.len() as f32;
    let (groups, listed) = (row.as_chunks::<32>().0, weights.as_chunks::<32>().0);
    for (chunk, (x, listed)) in groups.chunks(LANES).zip(listed.chunks(LANES)).enumerate() {
        let mut w = [[0.0; 32]; LANES];
        for (w, (x, listed)) in w.iter_mut().zip(x.iter().zip(listed)) {
            *w = importance(x, listed, sigma2);
        }
        let fit = search32(&lanes(x), &lanes(&w), most);
        for (lane, x) in x.iter().enumerate() {
            put(chunk * LANES + lane, fit.scale[lane], fit.codes(lane, x, most));
        }
    }
}

/// Searches sixteen groups `x` with the weights `w` for codes from `-most` to `most - 1`. The extreme value is tried at
/// `-most`, then from `0.9 - most` to `-0.9 - most`.
#[inline(always)]
pub(super) fn body<S: Simd, const N: usize>(simd: S, x: &[Lanes; N], w: &[Lanes; N], most: f32) -> Fit {
    let zero = simd.splat(0.0);
    let (magnitude, extreme) = extreme(simd, x);
    let range = (simd.splat(-most), simd.splat(most - 1.0));
    let mut inverse = simd.div(simd.splat(-most), extreme);
    let [sum_xl, sum_l2] = sums(simd, x, w, inverse, range);
    // Sums of squares are at least 0; where there is nothing, the scale is 0.
    let mut scale = simd.select_less(zero, sum_l2, simd.div(sum_xl, sum_l2), zero);
    let mut best = simd.mul(scale, sum_xl);
    for trial in (-9i8..=9).filter(|trial| *trial != 0) {
        let tried = simd.div(simd.splat(-(most + 0.1 * f32::from(trial))), extreme);
        let [sum_xl, sum_l2] = sums(simd, x, w, tried, range);
        let square = simd.select_less(zero, sum_l2, simd.mul(sum_xl, sum_xl), simd.splat(f32::NAN));
        let needed = simd.mul(best, sum_l2);
        let new_scale = simd.div(sum_xl, sum_l2);
        scale = simd.select_less(needed, square, new_scale, scale);
        inverse = simd.select_less(needed, square, tried, inverse);
        best = simd.select_less(needed, square, simd.mul(new_scale, sum_xl), best);
    }
    let mut fit = Fit::default();
    let least = simd.splat(EPSILON);
    simd.store(simd.select_less(magnitude, least, zero, scale), &mut fit.scale);
    simd.store(simd.select_less(magnitude, least, zero, inverse), &mut fit.inverse);
    fit
}

/// Sums of w x l and w l^2 with the codes l that `inverse` gives.
#[inline(always)]
fn sums<S: Simd, const N: usize>(
    simd: S,
    x: &[Lanes; N],
    w: &[Lanes; N],
    inverse: S::V,
    (low, high): (S::V, S::V),
) -> [S::V; 2] {
    let (mut sum_xl, mut sum_l2) = (simd.splat(0.0), simd.splat(0.0));
    for i in 0..N {
        let (x, w) = (simd.load(&x[i]), simd.load(&w[i]));
        let l = code(simd, simd.mul(inverse, x), low, high);
        sum_xl = simd.add(sum_xl, simd.mul(simd.mul(w, x), l));
        sum_l2 = simd.add(sum_l2, simd.mul(simd.mul(w, l), l));
    }
    [sum_xl, sum_l2]
}

crate::vectorized! {
    /// Groups of 16 weights: Q6_K.
    pub(in crate::format) fn search16(x: &[Lanes; 16], w: &[Lanes; 16], most: f32) -> Fit = body
}

crate::vectorized! {
    /// Groups of 32 weights: Q4_0 and Q5_0.
    pub(in crate::format) fn search32(x: &[Lanes; 32], w: &[Lanes; 32], most: f32) -> Fit = body
}
