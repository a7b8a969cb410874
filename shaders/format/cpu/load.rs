//! Pieces of blocks as numbers and vectors.

use crate::format::affine;
use crate::simd::{LANES, Simd};

/// Bytes `at..at + N` of a block.
#[inline(always)]
pub(in crate::format) fn bytes<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("blocks are longer")
}

/// The IEEE half at byte `at` of a block.
#[inline(always)]
pub(in crate::format) fn half<S: Simd>(simd: S, block: &[u8], at: usize) -> f32 {
    simd.half(u16::from_le_bytes(*bytes(block, at)))
}

/// Bytes `at..at + 16` of a block.
#[inline(always)]
pub(in crate::format) fn sixteen<S: Simd>(simd: S, block: &[u8], at: usize) -> S::Bytes {
    simd.load_bytes(bytes(block, at))
}

/// `scale * q + offset` of sixteen codes below 128.
#[inline(always)]
pub(in crate::format) fn scaled<S: Simd>(simd: S, codes: S::Bytes, (scale, offset): (f32, f32)) -> S::V {
    simd.mul_add(simd.splat(scale), simd.floats(codes), simd.splat(offset))
}

/// The 32 weights of Q5_0 and Q5_1.
#[inline(always)]
pub(in crate::format) fn fives<S: Simd>(simd: S, qh: &[u8; 4], qs: &[u8; LANES], affine: (f32, f32)) -> [S::V; 2] {
    let nibbles = simd.load_bytes(qs);
    let fifth = |first, second| simd.spread(u16::from_le_bytes([first, second]), 16);
    let low = simd.join(simd.bits(nibbles, 0, 15), fifth(qh[0], qh[1]), 0);
    let high = simd.join(simd.bits(nibbles, 4, 15), fifth(qh[2], qh[3]), 0);
    [scaled(simd, low, affine), scaled(simd, high, affine)]
}

/// The 6-bit scale and minimum of sub-block `j`.
#[inline(always)]
pub(in crate::format) fn scale_min(s: &[u8; 12], j: usize) -> (f32, f32) {
    let (scale, min) = affine::scale_min(s, j);
    (f32::from(scale), f32::from(min))
}
