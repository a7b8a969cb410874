//! Q4_K: 256 weights `d * scale_j * q - dmin * min_j`, q in 0..=15, eight sub-blocks j of 32 weights.

use bytemuck::{Pod, Zeroable};

use super::affine::{self, SUB};
use super::cpu::{Unit, load};
use super::search::affine::{Error, Grid};
use super::{Codec, Format, LARGEST_HALF, bytes_to_words, half, words_to_bytes};
use crate::simd::{LANES, Simd};

/// Weights per block.
pub const BLOCK: usize = affine::BLOCK;

const GRID: Grid = Grid { max_code: 15.0, first: -1.0, step: 0.1, trials: 21, error: Error::Squared };

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4K {
    /// Scale of the 6-bit scales, little-endian IEEE half.
    pub d: [u8; 2],
    /// Scale of the 6-bit minima, little-endian IEEE half.
    pub dmin: [u8; 2],
    /// Eight 6-bit scales and eight 6-bit minima, see [`BlockQ4K::scale_min`].
    pub scales: [u8; 12],
    /// Four groups g of 64 weights: byte 32g + l holds weight 64g + l in its low and 64g + 32 + l in its high nibble.
    pub qs: [u8; BLOCK / 2],
}

impl BlockQ4K {
    /// The 6-bit scale and minimum of sub-block `j` (ggml's `get_scale_min_k4`).
    pub fn scale_min(&self, j: usize) -> (u8, u8) {
        affine::scale_min(&self.scales, j)
    }
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 12,
    block_len: BLOCK,
    block_bytes: size_of::<BlockQ4K>(),
    // dmin = min / 63, and d is smaller.
    largest: LARGEST_HALF * 63.0,
    smaller_blocks: Some(Format::Q5_0),
    slab_quants: 8,
    slab_scales: 1,
    block_scales: 0,
    decode,
    encode: |row, out| encode(row, None, out),
    weighted: Some(|row, importance, out| encode(row, Some(importance), out)),
    pack_row,
    unpack_row,
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockQ4K>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let (d, dmin) = (half(block.d), half(block.dmin));
        for (j, out) in out.as_chunks_mut::<SUB>().0.iter_mut().enumerate() {
            let (scale, min) = block.scale_min(j);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for (byte, value) in block.qs[SUB * (j / 2)..].iter().zip(out) {
                *value = scale * f32::from((byte >> (4 * (j % 2))) & 15) - min;
            }
        }
    }
}

fn encode(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let out = bytemuck::cast_slice_mut::<u8, BlockQ4K>(out);
    affine::encode(row, importance, &GRID, |b, affine::Encoded { d, dmin, scales, codes }| {
        let mut qs = [0; BLOCK / 2];
        for (bytes, [low, high]) in qs.as_chunks_mut::<SUB>().0.iter_mut().zip(codes.as_chunks::<2>().0) {
            for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
                *byte = low | high << 4;
            }
        }
        out[b] = BlockQ4K { d, dmin, scales, qs };
    });
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockQ4K>(blocks).iter().enumerate() {
        bytes_to_words(&block.qs, &mut quants[32 * b..32 * b + 32]);
        bytes_to_words(&bytemuck::bytes_of(block)[..16], &mut scales[4 * b..4 * b + 4]);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockQ4K>(blocks).iter_mut().enumerate() {
        words_to_bytes(&scales[4 * b..4 * b + 4], &mut bytemuck::bytes_of_mut(block)[..16]);
        words_to_bytes(&quants[32 * b..32 * b + 32], &mut block.qs);
    }
}

/// A part is a group of 64 weights: sub-blocks 2 * part (low nibbles) and 2 * part + 1 (high nibbles).
pub(super) struct Fast;

impl Unit<144, 4> for Fast {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 144], part: usize) -> [S::V; 4] {
        let (d, dmin) = (load::half(simd, block, 0), load::half(simd, block, 2));
        let (scale0, min0) = load::scale_min(load::bytes(block, 4), 2 * part);
        let (scale1, min1) = load::scale_min(load::bytes(block, 4), 2 * part + 1);
        let affine = [(d * scale0, -dmin * min0), (d * scale1, -dmin * min1)];
        let quants = 16 + 32 * part;
        let [low0, high0] = simd.load_nibbles(load::bytes(block, quants), affine);
        let [low1, high1] = simd.load_nibbles(load::bytes(block, quants + LANES), affine);
        [low0, low1, high0, high1]
    }
}
