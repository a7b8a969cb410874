//! Pieces of blocks as numbers and vectors.

use crate::simd::Simd;

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

/// Bytes `at..at + 16` of a block.
#[inline(always)]
pub(super) fn sixteen<S: Simd>(simd: S, block: &[u8], at: usize) -> S::Bytes {
    simd.load_bytes(bytes(block, at))
}

/// `scale * q + offset` of sixteen codes below 128.
#[inline(always)]
pub(super) fn scaled<S: Simd>(simd: S, codes: S::Bytes, (scale, offset): (f32, f32)) -> S::V {
    simd.mul_add(simd.splat(scale), simd.floats(codes), simd.splat(offset))
}
