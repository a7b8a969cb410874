//! What Q4_K and Q5_K share: super-blocks of 256 weights `d * scale_j * q - dmin * min_j` with 6-bit scales and minima of
//! eight sub-blocks j of 32 weights.
//!
//! The encoder is ggml's `quantize_row_q4_K_ref` and `quantize_row_q5_K_ref`: a weighted affine search per sub-block,
//! scales and minima rounded to 6 bits, codes chosen again on the rounded grid.

use super::{half, nearest, to_half};

/// Weights per super-block.
pub(super) const BLOCK: usize = 256;
/// Weights per sub-block.
pub(super) const SUB: usize = 32;
/// Sub-blocks of a super-block.
pub(super) const SUBS: usize = BLOCK / SUB;

/// What distinguishes the searches of the two formats.
pub(super) struct Grid {
    /// Largest code.
    pub max_code: f32,
    /// What the first trial adds to `max_code`; every further trial adds 0.1 more.
    pub first: f32,
    /// Trials.
    pub trials: usize,
    /// What is summed up of the differences.
    pub error: Error,
}

/// How a difference between a weight and its decoded value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Error {
    /// By its square.
    Squared,
    /// By its magnitude.
    Absolute,
}

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

pub(super) fn encode(x: &[f32; BLOCK], grid: &Grid) -> Encoded {
    let subs = x.as_chunks::<SUB>().0;
    let mut codes = [[0u8; SUB]; SUBS];
    let (mut scales, mut mins) = ([0.0f32; SUBS], [0.0f32; SUBS]);
    for j in 0..SUBS {
        (scales[j], mins[j]) = search(&subs[j], &weights(&subs[j]), grid, &mut codes[j]);
    }
    let max_scale = scales.iter().fold(0.0f32, |most, &v| if v > most { v } else { most });
    let max_min = mins.iter().fold(0.0f32, |most, &v| if v > most { v } else { most });
    let scales = pack_scales(&six_bits(&scales, max_scale), &six_bits(&mins, max_min));
    let mut encoded = Encoded { d: to_half(max_scale / 63.0), dmin: to_half(max_min / 63.0), scales, codes };
    for (j, x) in subs.iter().enumerate() {
        recode(&mut encoded, j, x, grid.max_code);
    }
    encoded
}

/// How much each weight of a sub-block counts: sqrt(mean x^2) + |x|.
fn weights(x: &[f32; SUB]) -> [f32; SUB] {
    let mean_square = x.iter().fold(0.0f32, |sum, v| sum + v * v) / SUB as f32;
    let root = mean_square.sqrt();
    x.map(|v| root + v.abs())
}

/// ggml's `make_qkx2_quants` for one sub-block: the scale and (negated) minimum of lowest weighted error. An accepted
/// minimum replaces the one that later trials use.
pub(super) fn search<const N: usize>(x: &[f32; N], weights: &[f32; N], grid: &Grid, codes: &mut [u8; N]) -> (f32, f32) {
    let sum_w = weights[1..].iter().fold(weights[0], |sum, w| sum + w);
    let sum_x = (1..N).fold(weights[0] * x[0], |sum, i| sum + weights[i] * x[i]);
    let mut min = x.iter().fold(x[0], |least, &v| if v < least { v } else { least }).min(0.0);
    let max = x.iter().fold(x[0], |most, &v| if v > most { v } else { most });
    if max == min {
        return (0.0, -min);
    }
    let inverse = grid.max_code / (max - min);
    let mut scale = 1.0 / inverse;
    *codes = x.map(|v| code(inverse * (v - min), grid.max_code));
    let mut best = error(x, weights, codes, (scale, min), grid.error);
    for trial in 0..grid.trials {
        let inverse = (grid.first + 0.1 * trial as f32 + grid.max_code) / (max - min);
        let candidate = x.map(|v| code(inverse * (v - min), grid.max_code));
        let Some((new_scale, new_min)) = least_squares(x, weights, &candidate, sum_w, sum_x) else { continue };
        let new_error = error(x, weights, &candidate, (new_scale, new_min), grid.error);
        if new_error < best {
            (*codes, best, scale, min) = (candidate, new_error, new_scale, new_min);
        }
    }
    (scale, -min)
}

/// Scale and minimum (at most 0) that fit the codes best; `None` if the system is singular.
fn least_squares<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    codes: &[u8; N],
    sum_w: f32,
    sum_x: f32,
) -> Option<(f32, f32)> {
    let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0f32, 0.0f32, 0.0f32);
    for i in 0..N {
        let l = f32::from(codes[i]);
        sum_l += w[i] * l;
        sum_l2 += w[i] * l * l;
        sum_xl += w[i] * l * x[i];
    }
    let determinant = sum_w * sum_l2 - sum_l * sum_l;
    if determinant.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
        return None;
    }
    let min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    if min > 0.0 {
        return Some((sum_xl / sum_l2, 0.0));
    }
    Some(((sum_w * sum_xl - sum_x * sum_l) / determinant, min))
}

fn error<const N: usize>(x: &[f32; N], w: &[f32; N], codes: &[u8; N], (scale, min): (f32, f32), counted: Error) -> f32 {
    let mut sum = 0.0;
    for i in 0..N {
        let diff = scale * f32::from(codes[i]) + min - x[i];
        sum += w[i]
            * match counted {
                Error::Squared => diff * diff,
                Error::Absolute => diff.abs(),
            };
    }
    sum
}

/// Chooses the codes of sub-block `j` again on the grid that its stored scale and minimum give.
fn recode(block: &mut Encoded, j: usize, x: &[f32; SUB], max_code: f32) {
    let (scale, min) = scale_min(&block.scales, j);
    let d = half(block.d) * f32::from(scale);
    if d != 0.0 {
        let min = half(block.dmin) * f32::from(min);
        block.codes[j] = x.map(|v| code((v + min) / d, max_code));
    }
}

fn six_bits(values: &[f32; SUBS], max: f32) -> [u8; 8] {
    let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
    values.map(|v| nearest(inverse * v).clamp(0.0, 63.0) as u8)
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

/// The code from 0 to `max_code` nearest to `value`.
pub(super) fn code(value: f32, max_code: f32) -> u8 {
    nearest(value).clamp(0.0, max_code) as u8
}
