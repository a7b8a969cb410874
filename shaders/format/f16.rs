//! F16: IEEE half, rounded to nearest, ties to even.

use super::cpu::Unit;
use super::{Codec, LARGEST_HALF, half, plain, to_half};
use crate::simd::Simd;

pub(super) const CODEC: Codec = plain::codec(
    1,
    2,
    LARGEST_HALF,
    |blocks, out| plain::decode(blocks, out, half),
    |row, out| plain::encode(row, out, to_half),
);

/// Sixteen weights.
pub(super) struct Fast;

impl Unit<32, 1> for Fast {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, bytes: &[u8; 32], _part: usize) -> [S::V; 1] {
        [simd.load_f16(bytes)]
    }
}
