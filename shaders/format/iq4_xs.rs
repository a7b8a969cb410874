//! IQ4_XS: 256 weights `d * (scale_j - 32) * VALUES[q]`, q in 0..=15 an index of IQ4_NL's levels, eight sub-blocks j of
//! 32 weights.
//!
//! The encoder is ggml's `quantize_iq4_xs`: IQ4_NL's search for the scale of each sub-block,
//! scales rounded to 6 bits, codes chosen again with the rounded scales.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::iq4_nl::VALUES;
use super::search::{Lanes, lanes, levels, sum_of_squares};
use super::{Codec, Format, LARGEST_HALF, bytes_to_words, half, nearest, reciprocal, to_half, words_to_bytes};
use crate::simd::{LANES, Simd};

/// Weights per block.
pub const BLOCK: usize = 256;
/// Weights per sub-block.
const SUB: usize = 32;
/// Sub-blocks of a block.
const SUBS: usize = BLOCK / SUB;
/// What is subtracted from a stored scale.
const ZERO: f32 = 32.0;

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ4XS {
    /// Scale of the scales, little-endian IEEE half.
    pub d: [u8; 2],
    /// Upper two bits of the scale of sub-block j at bit 2j, little-endian.
    pub scales_h: [u8; 2],
    /// Lower four bits of the scales: byte j holds those of sub-blocks 2j (low nibble) and 2j + 1.
    pub scales_l: [u8; SUBS / 2],
    /// Sub-block j has bytes 16j..16j + 16: byte i holds its weight i in the low nibble and i + 16 in the high one.
    pub qs: [u8; BLOCK / 2],
}

impl BlockIQ4XS {
    /// The scale of sub-block `j`, from -32 to 31.
    fn scale(&self, j: usize) -> f32 {
        let low = (self.scales_l[j / 2] >> (4 * (j % 2))) & 15;
        let high = (self.scales_h[j / 4] >> (2 * (j % 4))) & 3;
        f32::from(low | high << 4) - ZERO
    }

    /// Stores a scale of 0 to 63 where zero is: the inverse of [`BlockIQ4XS::scale`].
    fn put_scale(&mut self, j: usize, stored: u8) {
        self.scales_l[j / 2] |= (stored & 15) << (4 * (j % 2));
        self.scales_h[j / 4] |= (stored >> 4) << (2 * (j % 4));
    }
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 23,
    block_len: BLOCK,
    block_bytes: size_of::<BlockIQ4XS>(),
    // d = max / 127 / 32 or, after the search, somewhat more.
    largest: LARGEST_HALF * 2048.0,
    smaller_blocks: Some(Format::IQ4_NL),
    slab_quants: 8,
    slab_scales: 0,
    block_scales: 2,
    decode,
    encode: |row, out| encode(row, None, out),
    weighted: Some(|row, importance, out| encode(row, Some(importance), out)),
    pack_row,
    unpack_row,
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockIQ4XS>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let d = half(block.d);
        let (subs, quants) = (out.as_chunks_mut::<SUB>().0, block.qs.as_chunks::<{ SUB / 2 }>().0);
        for (j, (out, quants)) in subs.iter_mut().zip(quants).enumerate() {
            let scale = d * block.scale(j);
            for (i, byte) in quants.iter().enumerate() {
                out[i] = scale * f32::from(VALUES[usize::from(byte & 15)]);
                out[i + SUB / 2] = scale * f32::from(VALUES[usize::from(byte >> 4)]);
            }
        }
    }
}

fn encode(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let out = bytemuck::cast_slice_mut::<u8, BlockIQ4XS>(out);
    const PAIR: usize = LANES / SUBS;
    for (chunk, (x, out)) in row.as_chunks::<SUB>().0.chunks(LANES).zip(out.chunks_mut(PAIR)).enumerate() {
        let importance = importance.map(|list| list[chunk * LANES * SUB..].as_chunks::<SUB>().0);
        let mut weights = [[0.0; SUB]; LANES];
        for (b, block) in x.chunks(SUBS).enumerate() {
            let sigma2 = sum_of_squares(block.as_flattened()) * (2.0 / BLOCK as f32);
            for (j, x) in block.iter().enumerate() {
                let at = b * SUBS + j;
                weights[at] = levels::weigh(x, importance.map(|list| &list[at][..]), sigma2);
            }
        }
        encode_pair(&lanes(x), &lanes(&weights), out);
    }
}

/// The scales are rounded and codes are chosen with the f32 scale of the block; only the stored one is a half.
fn encode_pair(x: &[Lanes; SUB], weights: &[Lanes; SUB], out: &mut [BlockIQ4XS]) {
    let found = levels::search(x, weights, &levels::BOUNDS);
    let mut inverses = [0.0; LANES];
    for (block, (scales, inverses)) in out.iter_mut().zip(found.chunks(SUBS).zip(inverses.chunks_mut(SUBS))) {
        let most = scales.iter().fold(0.0f32, |most, &v| if v.abs() > most.abs() { v } else { most });
        let d = -most / ZERO;
        *block = BlockIQ4XS { d: to_half(d), ..Zeroable::zeroed() };
        for (j, (scale, step_inverse)) in scales.iter().zip(inverses).enumerate() {
            let scale = nearest(reciprocal(d) * scale).clamp(-ZERO, ZERO - 1.0);
            *step_inverse = reciprocal(d * scale);
            block.put_scale(j, (scale + ZERO) as u8);
        }
    }
    let codes = levels::codes(x, &inverses, &levels::BOUNDS);
    for (b, block) in out.iter_mut().enumerate() {
        for (at, byte) in block.qs.iter_mut().enumerate() {
            let (lane, i) = (b * SUBS + at / (SUB / 2), at % (SUB / 2));
            *byte = codes[i][lane] as u8 | (codes[i + SUB / 2][lane] as u8) << 4;
        }
    }
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockIQ4XS>(blocks).iter().enumerate() {
        bytes_to_words(&block.qs, &mut quants[32 * b..32 * b + 32]);
        bytes_to_words(&bytemuck::bytes_of(block)[..8], &mut scales[2 * b..2 * b + 2]);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockIQ4XS>(blocks).iter_mut().enumerate() {
        words_to_bytes(&scales[2 * b..2 * b + 2], &mut bytemuck::bytes_of_mut(block)[..8]);
        words_to_bytes(&quants[32 * b..32 * b + 32], &mut block.qs);
    }
}

/// A part is sub-blocks 2 * part and 2 * part + 1.
pub(super) struct Fast;

impl Unit<136, 4> for Fast {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 136], part: usize) -> [S::V; 4] {
        let d = load::half(simd, block, 0);
        let high = u16::from_le_bytes(*load::bytes(block, 2)) >> (4 * part);
        let low = block[4 + part];
        let first = i16::from(low & 15) | ((high & 3) << 4) as i16;
        let second = i16::from(low >> 4) | ((high & 12) << 2) as i16;
        let [first, second] = [first, second].map(|scale| simd.splat(d * f32::from(scale - 32)));
        let [low0, high0] = simd.load_table(load::bytes(block, 8 + 32 * part), &VALUES);
        let [low1, high1] = simd.load_table(load::bytes(block, 8 + 32 * part + LANES), &VALUES);
        [simd.mul(first, low0), simd.mul(first, high0), simd.mul(second, low1), simd.mul(second, high1)]
    }
}
