//! Units of blocks of 256 weights: a part is 64 of them.

use super::Unit;
use super::load::{bytes, half, scaled, sixteen};
use crate::format::{affine, iq4_nl, q3_k};
use crate::simd::{LANES, Simd};

pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;
pub(super) struct IQ4XS;

/// A part is half of the bits of 32 bytes: sixteen weights each of sub-blocks 4 * part to 4 * part + 3.
impl Unit<84, 4> for Q2K {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 84], part: usize) -> [S::V; 4] {
        let (d, dmin) = (half(simd, block, 80), half(simd, block, 82));
        let mut out = [simd.splat(0.0); 4];
        for (run, out) in out.iter_mut().enumerate() {
            let quants = sixteen(simd, block, 16 + 32 * (part / 2) + LANES * (run % 2));
            let scales = block[4 * part + run];
            let affine = (d * f32::from(scales & 15), -dmin * f32::from(scales >> 4));
            *out = scaled(simd, simd.bits(quants, 4 * (part % 2) + 2 * (run / 2), 3), affine);
        }
        out
    }
}

/// A part is as in Q2_K; the third bits of 256 weights are in the same 32 bytes.
impl Unit<110, 4> for Q3K {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 110], part: usize) -> [S::V; 4] {
        let d = half(simd, block, 108);
        let mut out = [simd.splat(0.0); 4];
        for (run, out) in out.iter_mut().enumerate() {
            let quants = sixteen(simd, block, 32 + 32 * (part / 2) + LANES * (run % 2));
            let third = sixteen(simd, block, LANES * (run % 2));
            let lower = simd.bits(quants, 4 * (part % 2) + 2 * (run / 2), 3);
            let codes = simd.join(lower, simd.bits(third, 2 * part + run / 2, 1), 2);
            let scale = d * f32::from(q3_k::scale(bytes(block, 96), 4 * part + run));
            *out = scaled(simd, codes, (scale, -4.0 * scale));
        }
        out
    }
}

/// A part is a group of 64 weights: sub-blocks 2 * part (low nibbles) and 2 * part + 1 (high nibbles).
impl Unit<144, 4> for Q4K {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 144], part: usize) -> [S::V; 4] {
        let (d, dmin) = (half(simd, block, 0), half(simd, block, 2));
        let (scale0, min0) = scale_min(bytes(block, 4), 2 * part);
        let (scale1, min1) = scale_min(bytes(block, 4), 2 * part + 1);
        let affine = [(d * scale0, -dmin * min0), (d * scale1, -dmin * min1)];
        let quants = 16 + 32 * part;
        let [low0, high0] = simd.load_nibbles(bytes(block, quants), affine);
        let [low1, high1] = simd.load_nibbles(bytes(block, quants + LANES), affine);
        [low0, low1, high0, high1]
    }
}

/// A part is as in Q4_K.
impl Unit<176, 4> for Q5K {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 176], part: usize) -> [S::V; 4] {
        let (d, dmin) = (half(simd, block, 0), half(simd, block, 2));
        let (scale0, min0) = scale_min(bytes(block, 4), 2 * part);
        let (scale1, min1) = scale_min(bytes(block, 4), 2 * part + 1);
        let (low, high) = ((d * scale0, -dmin * min0), (d * scale1, -dmin * min1));
        let mut out = [simd.splat(0.0); 4];
        for (run, out) in out.iter_mut().enumerate() {
            let quants = sixteen(simd, block, 48 + 32 * part + LANES * (run % 2));
            let fifth = sixteen(simd, block, 16 + LANES * (run % 2));
            let lower = simd.bits(quants, 4 * (run / 2), 15);
            let codes = simd.join(lower, simd.bits(fifth, 2 * part + run / 2, 1), 4);
            *out = scaled(simd, codes, if run < 2 { low } else { high });
        }
        out
    }
}

/// A part is 64 weights: the low or the high nibbles of half a block.
impl Unit<210, 4> for Q6K {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 210], part: usize) -> [S::V; 4] {
        let (d, high) = (half(simd, block, 208), part % 2);
        let mut out = [simd.splat(0.0); 4];
        for (run, out) in out.iter_mut().enumerate() {
            let lower = sixteen(simd, block, 64 * (part / 2) + LANES * run);
            let upper = sixteen(simd, block, 128 + 32 * (part / 2) + LANES * (run % 2));
            let lower = simd.bits(lower, 4 * high, 15);
            let codes = simd.join(lower, simd.bits(upper, 4 * high + 2 * (run / 2), 3), 4);
            let scale = d * f32::from(block[192 + 4 * part + run] as i8);
            *out = scaled(simd, codes, (scale, -32.0 * scale));
        }
        out
    }
}

/// A part is sub-blocks 2 * part and 2 * part + 1.
impl Unit<136, 4> for IQ4XS {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 136], part: usize) -> [S::V; 4] {
        let d = half(simd, block, 0);
        let high = u16::from_le_bytes(*bytes(block, 2)) >> (4 * part);
        let low = block[4 + part];
        let first = i16::from(low & 15) | ((high & 3) << 4) as i16;
        let second = i16::from(low >> 4) | ((high & 12) << 2) as i16;
        let [first, second] = [first, second].map(|scale| simd.splat(d * f32::from(scale - 32)));
        let [low0, high0] = simd.load_table(bytes(block, 8 + 32 * part), &iq4_nl::VALUES);
        let [low1, high1] = simd.load_table(bytes(block, 8 + 32 * part + LANES), &iq4_nl::VALUES);
        [simd.mul(first, low0), simd.mul(first, high0), simd.mul(second, low1), simd.mul(second, high1)]
    }
}

/// The 6-bit scale and minimum of sub-block `j`.
#[inline(always)]
fn scale_min(s: &[u8; 12], j: usize) -> (f32, f32) {
    let (scale, min) = affine::scale_min(s, j);
    (f32::from(scale), f32::from(min))
}
