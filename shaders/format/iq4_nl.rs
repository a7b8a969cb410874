//! IQ4_NL: 32 weights `d * VALUES[q]` with q in 0..=15: levels that are denser near zero.
//!
//! The encoder is ggml's `quantize_iq4_nl`: a search for the scale of least squared error, every weight counting as its
//! square, or by importance and magnitude.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::search::{lanes, levels, sum_of_squares};
use super::{Codec, LARGEST_HALF, bytes_to_words, get_scale, half, put_scale, reciprocal, to_half, words_to_bytes};
use crate::simd::LANES;
use crate::simd::Simd;

/// Weights per block.
pub const BLOCK: usize = 32;

/// The levels (ggml's `kvalues_iq4nl`).
pub const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ4NL {
    /// Scale, little-endian IEEE half.
    pub d: [u8; 2],
    /// Byte j holds weight j in its low nibble and weight j + 16 in its high nibble.
    pub qs: [u8; BLOCK / 2],
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 20,
    block_len: BLOCK,
    block_bytes: size_of::<BlockIQ4NL>(),
    // d = max / 127 or, after the search, somewhat more.
    largest: LARGEST_HALF * 100.0,
    smaller_blocks: None,
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
    for (block, out) in bytemuck::cast_slice::<u8, BlockIQ4NL>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let d = half(block.d);
        for (j, byte) in block.qs.iter().enumerate() {
            out[j] = d * f32::from(VALUES[usize::from(byte & 15)]);
            out[j + BLOCK / 2] = d * f32::from(VALUES[usize::from(byte >> 4)]);
        }
    }
}

/// The scale is searched and codes are chosen in f32; only the stored scale is a half.
fn encode(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let out = bytemuck::cast_slice_mut::<u8, BlockIQ4NL>(out);
    let bounds = &levels::BOUNDS;
    for (chunk, (x, out)) in row.as_chunks::<BLOCK>().0.chunks(LANES).zip(out.chunks_mut(LANES)).enumerate() {
        let mut weights = [[0.0; BLOCK]; LANES];
        for (i, (weights, x)) in weights.iter_mut().zip(x).enumerate() {
            let sigma2 = sum_of_squares(x) * (2.0 / BLOCK as f32);
            let at = (chunk * LANES + i) * BLOCK;
            *weights = levels::weigh(x, importance.map(|list| &list[at..][..BLOCK]), sigma2);
        }
        let x = lanes(x);
        let scales = levels::search(&x, &lanes(&weights), bounds);
        let codes = levels::codes(&x, &scales.map(reciprocal), bounds);
        for (i, block) in out.iter_mut().enumerate() {
            block.d = to_half(scales[i]);
            block.qs = std::array::from_fn(|j| codes[j][i] as u8 | (codes[j + BLOCK / 2][i] as u8) << 4);
        }
    }
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockIQ4NL>(blocks).iter().enumerate() {
        bytes_to_words(&block.qs, &mut quants[4 * b..4 * b + 4]);
        put_scale(scales, b, block.d);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockIQ4NL>(blocks).iter_mut().enumerate() {
        words_to_bytes(&quants[4 * b..4 * b + 4], &mut block.qs);
        block.d = get_scale(scales, b);
    }
}

/// A block.
pub(super) struct Fast;

impl Unit<18, 2> for Fast {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 18], _part: usize) -> [S::V; 2] {
        let d = simd.splat(load::half(simd, block, 0));
        let [low, high] = simd.load_table(load::bytes(block, 2), &VALUES);
        [simd.mul(d, low), simd.mul(d, high)]
    }
}
