//! MXFP4: 32 weights `2^(e - 128) * VALUES[q]`, q in 0..=15: the floats of four bits of the OCP microscaling formats.
//!
//! The encoder is ggml's `quantize_row_mxfp4_ref`: the power of two follows from the largest magnitude.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::{Codec, bytes_to_words, get_scale, put_scale, words_to_bytes};
use crate::simd::Simd;

/// Weights per block.
pub const BLOCK: usize = 32;

/// Twice the values of E2M1 (ggml's `kvalues_mxfp4`).
pub const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockMXFP4 {
    /// Exponent: the scale is 2^(e - 128).
    pub e: u8,
    /// Byte j holds weight j in its low nibble and weight j + 16 in its high nibble.
    pub qs: [u8; BLOCK / 2],
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 39,
    block_len: BLOCK,
    block_bytes: size_of::<BlockMXFP4>(),
    // A power of two has the range of f32.
    largest: f32::MAX,
    smaller_blocks: None,
    slab_quants: 8,
    slab_scales: 1,
    block_scales: 0,
    decode,
    encode,
    weighted: None,
    pack_row,
    unpack_row,
};

/// `2^(e - 128)`, half of what E8M0 says, for [`VALUES`] are doubled. Subnormal for 0 and 1.
#[inline(always)]
pub(super) fn scale(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockMXFP4>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let d = scale(block.e);
        for (j, byte) in block.qs.iter().enumerate() {
            out[j] = d * f32::from(VALUES[usize::from(byte & 15)]);
            out[j + BLOCK / 2] = d * f32::from(VALUES[usize::from(byte >> 4)]);
        }
    }
}

fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockMXFP4>(out)) {
        let most = x.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        block.e = if most > 0.0 { (most.log2().floor() - 2.0 + 127.0) as u8 } else { 0 };
        let d = scale(block.e);
        for (j, byte) in block.qs.iter_mut().enumerate() {
            *byte = nearest_value(x[j], d) | nearest_value(x[j + BLOCK / 2], d) << 4;
        }
    }
}

/// Index of the value of least absolute error, the first one on ties.
fn nearest_value(x: f32, d: f32) -> u8 {
    let (mut best, mut least) = (0, x.abs());
    for (code, value) in VALUES.iter().enumerate().skip(1) {
        let error = (f32::from(*value) * d - x).abs();
        if error < least {
            (best, least) = (code as u8, error);
        }
    }
    best
}

/// Scales are packed as bfloat16, which holds every power of two that occurs: a loader shifts instead of building them.
fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockMXFP4>(blocks).iter().enumerate() {
        bytes_to_words(&block.qs, &mut quants[4 * b..4 * b + 4]);
        let bits = (scale(block.e).to_bits() >> 16) as u16;
        put_scale(scales, b, bits.to_le_bytes());
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockMXFP4>(blocks).iter_mut().enumerate() {
        words_to_bytes(&quants[4 * b..4 * b + 4], &mut block.qs);
        let bits = u16::from_le_bytes(get_scale(scales, b));
        // 2^-127 has no bit above the fraction; 2^-128 one bit less.
        block.e = if bits < 0x80 { u8::from(bits >= 0x40) } else { (bits >> 7) as u8 + 1 };
    }
}

/// A block.
pub(super) struct Fast;

impl Unit<17, 2> for Fast {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 17], _part: usize) -> [S::V; 2] {
        let d = simd.splat(scale(block[0]));
        let [low, high] = simd.load_table(load::bytes(block, 1), &VALUES);
        [simd.mul(d, low), simd.mul(d, high)]
    }
}
