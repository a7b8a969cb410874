//! Q4_1: 32 weights `d * q + m` with q in 0..=15.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::search::affine;
use super::{Codec, LARGEST_HALF, bytes_to_words, extremes, half, reciprocal, to_half, truncate, words_to_bytes};
use crate::simd::Simd;

/// Weights per block.
pub const BLOCK: usize = 32;

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// Scale, little-endian IEEE half.
    pub d: [u8; 2],
    /// Minimum, little-endian IEEE half.
    pub m: [u8; 2],
    /// Byte j holds weight j in its low nibble and weight j + 16 in its high nibble.
    pub qs: [u8; BLOCK / 2],
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 3,
    block_len: BLOCK,
    block_bytes: size_of::<BlockQ4_1>(),
    // m = min, and d is smaller.
    largest: LARGEST_HALF,
    smaller_blocks: None,
    slab_quants: 8,
    slab_scales: 2,
    block_scales: 0,
    decode,
    encode,
    weighted: Some(encode_weighted),
    pack_row,
    unpack_row,
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockQ4_1>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let (d, m) = (half(block.d), half(block.m));
        for (j, byte) in block.qs.iter().enumerate() {
            out[j] = f32::from(byte & 15) * d + m;
            out[j + BLOCK / 2] = f32::from(byte >> 4) * d + m;
        }
    }
}

/// The smallest value maps to 0, the largest to 15; codes use the f32 values of scale and minimum.
fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockQ4_1>(out)) {
        let (min, max) = extremes(x);
        let d = (max - min) / 15.0;
        let inverse = reciprocal(d);
        let code = |v: f32| truncate((v - min) * inverse + 0.5).min(15);
        (block.d, block.m) = (to_half(d), to_half(min));
        for (j, byte) in block.qs.iter_mut().enumerate() {
            *byte = code(x[j]) | code(x[j + BLOCK / 2]) << 4;
        }
    }
}

/// Scale and minimum are searched for: the block's errors count by importance and magnitude.
fn encode_weighted(row: &[f32], importance: &[f32], out: &mut [u8]) {
    let out = bytemuck::cast_slice_mut::<u8, BlockQ4_1>(out);
    affine::blocks(row, importance, 15.0, |b, scale, min, codes| {
        let qs = std::array::from_fn(|j| codes[j] | codes[j + BLOCK / 2] << 4);
        out[b] = BlockQ4_1 { d: to_half(scale), m: to_half(min), qs };
    });
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockQ4_1>(blocks).iter().enumerate() {
        bytes_to_words(&block.qs, &mut quants[4 * b..4 * b + 4]);
        bytes_to_words(&bytemuck::bytes_of(block)[..4], &mut scales[b..=b]);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockQ4_1>(blocks).iter_mut().enumerate() {
        words_to_bytes(&quants[4 * b..4 * b + 4], &mut block.qs);
        words_to_bytes(&scales[b..=b], &mut bytemuck::bytes_of_mut(block)[..4]);
    }
}

/// A block.
pub(super) struct Fast;

impl Unit<20, 2> for Fast {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 20], _part: usize) -> [S::V; 2] {
        let affine = (load::half(simd, block, 0), load::half(simd, block, 2));
        simd.load_nibbles(load::bytes(block, 4), [affine; 2])
    }
}
