//! Units of plain floats and of blocks of 32 weights.

use super::Unit;
use super::load::{bytes, each, half, scaled};
use crate::format::{iq4_nl, mxfp4};
use crate::simd::{LANES, Simd};

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct BF16;
pub(super) struct Q4_0;
pub(super) struct Q8_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct IQ4NL;
pub(super) struct MXFP4;

impl Unit<64, 1> for F32 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, bytes: &[u8; 64], _part: usize) -> [S::V; 1] {
        [simd.load_f32(bytes)]
    }
}

impl Unit<32, 1> for F16 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, bytes: &[u8; 32], _part: usize) -> [S::V; 1] {
        [simd.load_f16(bytes)]
    }
}

impl Unit<32, 1> for BF16 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, bytes: &[u8; 32], _part: usize) -> [S::V; 1] {
        [simd.load_bf16(bytes)]
    }
}

impl Unit<18, 2> for Q4_0 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 18], _part: usize) -> [S::V; 2] {
        let d = half(simd, block, 0);
        simd.load_nibbles(bytes(block, 2), [(d, -8.0 * d); 2])
    }
}

impl Unit<34, 2> for Q8_0 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 34], _part: usize) -> [S::V; 2] {
        let d = simd.splat(half(simd, block, 0));
        [simd.mul(d, simd.load_i8(bytes(block, 2))), simd.mul(d, simd.load_i8(bytes(block, 2 + LANES)))]
    }
}

impl Unit<20, 2> for Q4_1 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 20], _part: usize) -> [S::V; 2] {
        let affine = (half(simd, block, 0), half(simd, block, 2));
        simd.load_nibbles(bytes(block, 4), [affine; 2])
    }
}

impl Unit<22, 2> for Q5_0 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 22], _part: usize) -> [S::V; 2] {
        let d = half(simd, block, 0);
        fives(simd, bytes(block, 2), bytes(block, 6), (d, -16.0 * d))
    }
}

impl Unit<24, 2> for Q5_1 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 24], _part: usize) -> [S::V; 2] {
        fives(simd, bytes(block, 4), bytes(block, 8), (half(simd, block, 0), half(simd, block, 2)))
    }
}

impl Unit<18, 2> for IQ4NL {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 18], _part: usize) -> [S::V; 2] {
        let d = simd.splat(half(simd, block, 0));
        let [low, high] = simd.load_table(bytes(block, 2), &iq4_nl::VALUES);
        [simd.mul(d, low), simd.mul(d, high)]
    }
}

impl Unit<17, 2> for MXFP4 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 17], _part: usize) -> [S::V; 2] {
        let d = simd.splat(mxfp4::scale(block[0]));
        let [low, high] = simd.load_table(bytes(block, 1), &mxfp4::VALUES);
        [simd.mul(d, low), simd.mul(d, high)]
    }
}

/// The 32 weights of Q5_0 and Q5_1.
#[inline(always)]
fn fives<S: Simd>(simd: S, qh: &[u8; 4], qs: &[u8; LANES], affine: (f32, f32)) -> [S::V; 2] {
    let nibbles = u128::from_le_bytes(*qs);
    let low = (nibbles & each(15)) | fifth_bits(qh[0], qh[1]);
    let high = ((nibbles >> 4) & each(15)) | fifth_bits(qh[2], qh[3]);
    [scaled(simd, low, affine), scaled(simd, high, affine)]
}

/// Sixteen bits as bit 4 of sixteen bytes.
#[inline(always)]
fn fifth_bits(first: u8, second: u8) -> u128 {
    u128::from(eight_fifth_bits(first)) | u128::from(eight_fifth_bits(second)) << 64
}

/// Byte i keeps bit i of its copy of `bits`; adding 127 carries it, wherever it is, to the highest bit.
#[inline(always)]
fn eight_fifth_bits(bits: u8) -> u64 {
    let kept = (u64::from(bits) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    ((kept + 0x7f7f_7f7f_7f7f_7f7f) & 0x8080_8080_8080_8080) >> 3
}
