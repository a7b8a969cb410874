//! Q5_1: 32 weights `d * q + m` with q in 0..=31.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::search::affine;
use super::{
    Codec, LARGEST_HALF, bytes_to_words, extremes, fives, half, reciprocal, to_half, truncate, words_to_bytes,
};
use crate::simd::Simd;

/// Weights per block.
pub const BLOCK: usize = 32;

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_1 {
    /// Scale, little-endian IEEE half.
    pub d: [u8; 2],
    /// Minimum, little-endian IEEE half.
    pub m: [u8; 2],
    /// Bit j of this little-endian word is the fifth bit of weight j.
    pub qh: [u8; 4],
    /// Byte j holds the lower four bits of weight j in its low nibble and of weight j + 16 in its high one.
    pub qs: [u8; BLOCK / 2],
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 7,
    block_len: BLOCK,
    block_bytes: size_of::<BlockQ5_1>(),
    // m = min, and d is smaller.
    largest: LARGEST_HALF,
    smaller_blocks: None,
    slab_quants: 8,
    slab_scales: 4,
    block_scales: 0,
    decode,
    encode,
    weighted: Some(encode_weighted),
    pack_row,
    unpack_row,
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockQ5_1>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let (d, m, bits) = (half(block.d), half(block.m), u32::from_le_bytes(block.qh));
        for (j, byte) in block.qs.iter().enumerate() {
            let (low, high) = ((bits >> j) & 1, (bits >> (j + BLOCK / 2)) & 1);
            out[j] = f32::from(byte & 15 | (low as u8) << 4) * d + m;
            out[j + BLOCK / 2] = f32::from(byte >> 4 | (high as u8) << 4) * d + m;
        }
    }
}

/// The smallest value maps to 0, the largest to 31; codes use the f32 values of scale and minimum.
fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockQ5_1>(out)) {
        let (min, max) = extremes(x);
        let d = (max - min) / 31.0;
        let inverse = reciprocal(d);
        (block.d, block.m) = (to_half(d), to_half(min));
        (block.qh, block.qs) = fives(&x.map(|v| truncate((v - min) * inverse + 0.5).min(31)));
    }
}

/// Scale and minimum are searched for: the block's errors count by importance and magnitude.
fn encode_weighted(row: &[f32], importance: &[f32], out: &mut [u8]) {
    let out = bytemuck::cast_slice_mut::<u8, BlockQ5_1>(out);
    affine::blocks(row, importance, 31.0, |b, scale, min, codes| {
        let (qh, qs) = fives(&codes);
        out[b] = BlockQ5_1 { d: to_half(scale), m: to_half(min), qh, qs };
    });
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockQ5_1>(blocks).iter().enumerate() {
        bytes_to_words(&block.qs, &mut quants[4 * b..4 * b + 4]);
        bytes_to_words(&bytemuck::bytes_of(block)[..8], &mut scales[2 * b..2 * b + 2]);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockQ5_1>(blocks).iter_mut().enumerate() {
        words_to_bytes(&quants[4 * b..4 * b + 4], &mut block.qs);
        words_to_bytes(&scales[2 * b..2 * b + 2], &mut bytemuck::bytes_of_mut(block)[..8]);
    }
}

/// A block.
pub(super) struct Fast;

impl Unit<24, 2> for Fast {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 24], _part: usize) -> [S::V; 2] {
        load::fives(
            simd,
            load::bytes(block, 4),
            load::bytes(block, 8),
            (load::half(simd, block, 0), load::half(simd, block, 2)),
        )
    }
}
