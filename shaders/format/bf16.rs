//! BF16: the upper half of an f32, rounded to nearest, ties to even.

use half::bf16;

use super::cpu::Unit;
use super::{Codec, plain};
use crate::simd::Simd;

/// The last f32 that is not rounded to an infinite bf16.
const LARGEST: f32 = f32::from_bits(0x7f7f_7fff);

pub(super) const CODEC: Codec = plain::codec(
    30,
    2,
    LARGEST,
    |blocks, out| plain::decode(blocks, out, |le| bf16::from_le_bytes(le).to_f32()),
    |row, out| plain::encode(row, out, |value| bf16::from_f32(value).to_le_bytes()),
);

/// Sixteen weights.
pub(super) struct Fast;

impl Unit<32, 1> for Fast {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, bytes: &[u8; 32], _part: usize) -> [S::V; 1] {
        [simd.load_bf16(bytes)]
    }
}
