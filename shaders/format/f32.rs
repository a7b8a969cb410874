//! F32: weights as they are.

use super::cpu::Unit;
use super::{Codec, plain};
use crate::simd::Simd;

pub(super) const CODEC: Codec = plain::codec(
    0,
    4,
    f32::MAX,
    |blocks, out| plain::decode(blocks, out, f32::from_le_bytes),
    |row, out| plain::encode(row, out, f32::to_le_bytes),
);

/// Sixteen weights.
pub(super) struct Fast;

impl Unit<64, 1> for Fast {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, bytes: &[u8; 64], _part: usize) -> [S::V; 1] {
        [simd.load_f32(bytes)]
    }
}
