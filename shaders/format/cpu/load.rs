//! Pieces of blocks as numbers and vectors.

use crate::simd::{LANES, Simd};

/// Bytes `at..at + N` of a block.
#[inline(always)]
pub(super) fn bytes<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("blocks are longer")
}

/// The IEEE half at byte `at` of a block.
#[inline(always)]
pub(super) fn half<S: Simd>(simd: S, block: &[u8], at: usize) -> f32 {
    simd.half(u16::from_le_bytes(*bytes(block, at)))
}

/// Bytes `at..at + 16` of a block as a number: integer operations on all of them at once.
#[inline(always)]
pub(super) fn wide(block: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(*bytes(block, at))
}

/// Sixteen bytes `value`.
#[inline(always)]
pub(super) const fn each(value: u8) -> u128 {
    u128::from_le_bytes([value; LANES])
}

/// `scale * q + offset` of sixteen codes below 128.
#[inline(always)]
pub(super) fn scaled<S: Simd>(simd: S, codes: u128, (scale, offset): (f32, f32)) -> S::V {
    simd.mul_add(simd.splat(scale), simd.load_i8(&codes.to_le_bytes()), simd.splat(offset))
}
