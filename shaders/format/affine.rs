//! What Q4_K and Q5_K share: super-blocks of 256 weights `d * scale_j * q - dmin * min_j` with 6-bit scales and minima
//! of eight sub-blocks j of 32 weights.
//!
//! The encoder is ggml's `quantize_row_q4_K_ref` and `quantize_row_q5_K_ref`, or their `_impl` with an importance
//! matrix: a weighted affine search per sub-block, scales and minima rounded to 6 bits, codes chosen again on the
//! rounded grid.

use super::search::affine::{Fit, Grid, search32, weighted};
use super::search::{self, lanes, sum_of_squares};
use super::{EPSILON, half, nearest, to_half};
use crate::simd::LANES;

/// Weights per super-block.
pub(super) const BLOCK: usize = 256;
/// Weights per sub-block.
pub(super) const SUB: usize = 32;
/// Sub-blocks of a super-block.
pub(super) const SUBS: usize = BLOCK / SUB;

/// An encoded super-block, codes not yet in their places.
pub(super) struct Encoded {
    /// Scale of the scales, little-endian IEEE half.
    pub d: [u8; 2],
    /// Scale of the minima, little-endian IEEE half.
    pub dmin: [u8; 2],
    /// 6-bit scales and minima, see [`scale_min`].
    pub scales: [u8; 12],
    /// Codes by sub-block.
    pub codes: [[u8; SUB]; SUBS],
}

/// The 6-bit scale and minimum of sub-block `j` (ggml's `get_scale_min_k4`).
#[inline(always)]
pub(super) fn scale_min(s: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        ((s[j + 4] & 15) | (s[j - 4] >> 6) << 4, (s[j + 4] >> 4) | (s[j] >> 6) << 4)
    }
}

/// Encodes a row of whole super-blocks, `put` takes each in order. With `importance`, one value per weight, the search
/// is that of the grid of weighted formats.
pub(super) fn encode(row: &[f32], importance: Option<&[f32]>, plain: &Grid, mut put: impl FnMut(usize, Encoded)) {
    let grid = if importance.is_some() { &weighted(plain.max_code) } else { plain };
    for (chunk, x) in row.chunks(LANES * SUB).enumerate() {
        let subs = x.as_chunks::<SUB>().0;
        let importance = importance.map(|list| &list[chunk * LANES * SUB..][..x.len()]);
        let mut weights = [[0.0; SUB]; LANES];
        weigh(subs, importance, &mut weights);
        let fit = search32(&lanes(subs), &lanes(&weights), grid);
        for (b, subs) in subs.as_chunks::<SUBS>().0.iter().enumerate() {
            let sums = importance.is_some().then(|| std::array::from_fn(|j| sum(&weights[b * SUBS + j])));
            put(chunk * LANES / SUBS + b, block(subs, &fit, b * SUBS, sums, grid.max_code));
        }
    }
}

fn sum(values: &[f32; SUB]) -> f32 {
    values.iter().fold(0.0, |sum, v| sum + v)
}

/// How much each weight's error counts: sqrt(mean x^2) + |x|, the mean over the sub-block; or by importance.
fn weigh(subs: &[[f32; SUB]], importance: Option<&[f32]>, weights: &mut [[f32; SUB]; LANES]) {
    for (b, block) in subs.chunks(SUBS).enumerate() {
        let sigma2 = 2.0 * sum_of_squares(block.as_flattened()) / BLOCK as f32;
        for (j, x) in block.iter().enumerate() {
            let at = b * SUBS + j;
            weights[at] = match importance {
                Some(list) => search::importance(x, &list[at * SUB..][..SUB], sigma2),
                None => {
                    let root = (sum_of_squares(x) / SUB as f32).sqrt();
                    x.map(|v| root + v.abs())
                }
            };
        }
    }
}

/// One super-block, whose sub-blocks were searched in the lanes from `first` on. `sums`: the weights of the sub-blocks,
/// if scales and minima are to be searched too.
fn block(subs: &[[f32; SUB]; SUBS], fit: &Fit, first: usize, sums: Option<[f32; SUBS]>, max_code: f32) -> Encoded {
    let scales: [f32; SUBS] = std::array::from_fn(|j| fit.scale[first + j]);
    let mins: [f32; SUBS] = std::array::from_fn(|j| fit.min[first + j]);
    let [(d, scales), (dmin, mins)] = match sums {
        Some(weights) => [positive(&scales, &weights), positive(&mins, &weights)],
        None => [six_bits(&scales), six_bits(&mins)],
    };
    let codes = [[0; SUB]; SUBS];
    let mut encoded = Encoded { d: to_half(d), dmin: to_half(dmin), scales: pack_scales(&scales, &mins), codes };
    for (j, x) in subs.iter().enumerate() {
        if !recode(&mut encoded, j, x, max_code) {
            encoded.codes[j] = fit.codes(first + j, x, max_code);
        }
    }
    encoded
}

/// Chooses the codes of sub-block `j` again on the grid that its stored scale and minimum give; false if it has none.
fn recode(block: &mut Encoded, j: usize, x: &[f32; SUB], max_code: f32) -> bool {
    let (scale, min) = scale_min(&block.scales, j);
    let d = half(block.d) * f32::from(scale);
    if d != 0.0 {
        let min = half(block.dmin) * f32::from(min);
        block.codes[j] = x.map(|v| nearest((v + min) / d).clamp(0.0, max_code) as u8);
    }
    d != 0.0
}

/// The largest value becomes 63: the scale of the six-bit values, and the values.
fn six_bits(values: &[f32; SUBS]) -> (f32, [u8; SUBS]) {
    let max = values.iter().fold(0.0f32, |most, &v| if v > most { v } else { most });
    let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
    (max / 63.0, values.map(|v| nearest(inverse * v).clamp(0.0, 63.0) as u8))
}

/// ggml's `make_qp_quants` with 63 levels: the scale and the six-bit values of least weighted squared error.
fn positive(values: &[f32; SUBS], weights: &[f32; SUBS]) -> (f32, [u8; SUBS]) {
    let max = values.iter().fold(0.0f32, |most, &v| if v > most { v } else { most });
    if max < EPSILON {
        return (0.0, [0; SUBS]);
    }
    let mut inverse = 63.0 / max;
    let error = |inverse: f32, most: f32| {
        let scale = 1.0 / inverse;
        let squares = values.iter().zip(weights).map(|(x, w)| {
            let diff = x - scale * nearest(inverse * x).min(most);
            w * diff * diff
        });
        squares.fold(0.0, |sum, square| sum + square)
    };
    let mut best = error(inverse, f32::INFINITY);
    for trial in (-4i8..=4).filter(|trial| *trial != 0) {
        let tried = (0.1 * f32::from(trial) + 63.0) / max;
        let error = error(tried, 63.0);
        if error < best {
            (best, inverse) = (error, tried);
        }
    }
    let mut levels = values.map(|x| nearest(inverse * x).min(63.0));
    let scale = descend(values, weights, &mut levels);
    (scale, levels.map(|level| level as i32 as u8))
}

/// Moves one value at a time to the level that is best for it given the others, five passes at most; then the scale of
/// least squares.
fn descend(values: &[f32; SUBS], weights: &[f32; SUBS], levels: &mut [f32; SUBS]) -> f32 {
    let (mut sum_lx, mut sum_l2) = (0.0f32, 0.0f32);
    for i in 0..SUBS {
        sum_lx += weights[i] * values[i] * levels[i];
        sum_l2 += weights[i] * levels[i] * levels[i];
    }
    for _ in 0..5 {
        let before = *levels;
        for i in 0..SUBS {
            let (x, w) = (values[i], weights[i]);
            let (lx, l2) = (sum_lx - w * x * levels[i], sum_l2 - w * levels[i] * levels[i]);
            if lx > 0.0 && l2 > 0.0 {
                let level = nearest(x * l2 / lx).min(63.0);
                let (new_lx, new_l2) = (lx + w * x * level, l2 + w * level * level);
                if level != levels[i] && new_lx * new_lx * sum_l2 > sum_lx * sum_lx * new_l2 {
                    (levels[i], sum_lx, sum_l2) = (level, new_lx, new_l2);
                }
            }
        }
        if *levels == before {
            break;
        }
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}

/// The inverse of [`scale_min`] for all eight pairs.
fn pack_scales(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        packed[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        packed[j + 8] = (scales[j + 4] & 15) | (mins[j + 4] & 15) << 4;
    }
    packed
}
