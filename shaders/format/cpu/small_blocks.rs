//! Units of plain floats and of blocks of 32 weights.

use super::Unit;
use super::load::{bytes, half, scaled};
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
    let nibbles = simd.load_bytes(qs);
    let fifth = |first, second| simd.spread(u16::from_le_bytes([first, second]), 16);
    let low = simd.join(simd.bits(nibbles, 0, 15), fifth(qh[0], qh[1]), 0);
    let high = simd.join(simd.bits(nibbles, 4, 15), fifth(qh[2], qh[3]), 0);
    [scaled(simd, low, affine), scaled(simd, high, affine)]
}
