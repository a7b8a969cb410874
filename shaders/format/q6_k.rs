//! Q6_K: 256 weights `d * scale_j * (q - 32)`, q in 0..=63, sixteen sub-blocks j of 16 weights.
//!
//! The encoder is ggml's `quantize_row_q6_K_ref`, or `quantize_row_q6_K_impl` with an importance matrix: a search for
//! the scale of each sub-block, scales rounded to 8 bits, codes chosen again on the rounded grid.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::search::lanes;
use super::search::symmetric::search16;
use super::{Codec, EPSILON, Format, LARGEST_HALF, bytes_to_words, half, nearest, to_half, words_to_bytes};
use crate::simd::{LANES, Simd};

/// Weights per block.
pub const BLOCK: usize = 256;
/// Weights per sub-block.
const SUB: usize = 16;
/// Sub-blocks of a block.
const SUBS: usize = BLOCK / SUB;
/// What is subtracted from a stored code.
const ZERO: f32 = 32.0;

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ6K {
    /// Lower four bits. Half h of 128 weights has bytes 64h..64h + 64: byte l holds weight l in its low nibble and
    /// weight l + 64 in its high one.
    pub ql: [u8; BLOCK / 2],
    /// Upper two bits. Half h has bytes 32h..32h + 32: byte l holds weights l, l + 32, l + 64 and l + 96.
    pub qh: [u8; BLOCK / 4],
    /// Scales of the sub-blocks.
    pub scales: [i8; SUBS],
    /// Scale of the scales, little-endian IEEE half.
    pub d: [u8; 2],
}

impl BlockQ6K {
    /// Where the codes of weights `i..i + 4` are, `i` being a multiple of four: byte and shift of the lower four bits,
    /// byte and shift of the upper two.
    fn place(i: usize) -> [(usize, usize); 2] {
        let (half, run, l) = (i / 128, i % 128 / 32, i % 32);
        [(64 * half + 32 * (run % 2) + l, 4 * (run / 2)), (32 * half + l, 2 * run)]
    }

    /// The codes of weights `i..i + 4` as the bytes of a word.
    fn codes(&self, i: usize) -> u32 {
        let [(low, low_shift), (high, high_shift)] = Self::place(i);
        ((word(&self.ql, low) >> low_shift) & 0x0f0f_0f0f) | ((word(&self.qh, high) >> high_shift) & 0x0303_0303) << 4
    }

    /// Stores codes where zeros are: the inverse of [`BlockQ6K::codes`].
    fn put_codes(&mut self, i: usize, codes: u32) {
        let [(low, low_shift), (high, high_shift)] = Self::place(i);
        or_word(&mut self.ql, low, (codes & 0x0f0f_0f0f) << low_shift);
        or_word(&mut self.qh, high, ((codes >> 4) & 0x0303_0303) << high_shift);
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn or_word(bytes: &mut [u8], at: usize, bits: u32) {
    for (byte, bits) in bytes[at..at + 4].iter_mut().zip(bits.to_le_bytes()) {
        *byte |= bits;
    }
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 14,
    block_len: BLOCK,
    block_bytes: size_of::<BlockQ6K>(),
    // d = max / 4096 or, after the search for the scale of a sub-block, somewhat more.
    largest: LARGEST_HALF * 2048.0,
    smaller_blocks: Some(Format::Q8_0),
    slab_quants: 12,
    slab_scales: 1,
    block_scales: 1,
    decode,
    encode: |row, out| encode(row, None, out),
    weighted: Some(|row, importance, out| encode(row, Some(importance), out)),
    pack_row,
    unpack_row,
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockQ6K>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let d = half(block.d);
        for (i, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let scale = d * f32::from(block.scales[4 * i / SUB]);
            *out = block.codes(4 * i).to_le_bytes().map(|code| scale * (f32::from(code) - ZERO));
        }
    }
}

fn encode(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let blocks = row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockQ6K>(out));
    for (b, (x, block)) in blocks.enumerate() {
        let mut weights = x.map(|v| v * v);
        if let Some(importance) = importance {
            weights.copy_from_slice(&importance[b * BLOCK..][..BLOCK]);
        }
        *block = encode_block(x.as_chunks::<SUB>().0, weights.as_chunks::<SUB>().0);
    }
}

/// The sub-blocks of one block with the weights that errors count by.
fn encode_block(subs: &[[f32; SUB]], weights: &[[f32; SUB]]) -> BlockQ6K {
    let fit = search16(&lanes(subs), &lanes(weights), ZERO);
    let most = fit.scale.iter().fold(0.0f32, |most, &v| if v.abs() > most.abs() { v } else { most });
    let mut block = BlockQ6K::zeroed();
    if most.abs() < EPSILON {
        return block;
    }
    let inverse = -128.0 / most;
    block.d = to_half(1.0 / inverse);
    block.scales = fit.scale.map(|scale| nearest(inverse * scale).min(127.0) as i8);
    let mut codes = [[0u8; SUB]; SUBS];
    for (j, (codes, x)) in codes.iter_mut().zip(subs).enumerate() {
        let d = half(block.d) * f32::from(block.scales[j]);
        *codes = if d == 0.0 {
            fit.codes(j, x, ZERO)
        } else {
            x.map(|v| (nearest(v / d).clamp(-ZERO, ZERO - 1.0) + ZERO) as u8)
        };
    }
    for (i, codes) in codes.as_flattened().as_chunks::<4>().0.iter().enumerate() {
        block.put_codes(4 * i, u32::from_le_bytes(*codes));
    }
    block
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockQ6K>(blocks).iter().enumerate() {
        for (s, slab) in quants[48 * b..48 * b + 48].as_chunks_mut::<12>().0.iter_mut().enumerate() {
            for o in 0..8 {
                let (low, high) = (block.codes(64 * s + 8 * o), block.codes(64 * s + 8 * o + 4));
                slab[o] = (low & 0x0f0f_0f0f) | (high & 0x0f0f_0f0f) << 4;
                let upper = ((low >> 4) & 0x0303_0303) | ((high >> 4) & 0x0303_0303) << 2;
                slab[8 + o / 2] |= upper << (4 * (o % 2));
            }
        }
        bytes_to_words(&bytemuck::bytes_of(block)[BLOCK * 3 / 4..], &mut scales[5 * b..5 * b + 5]);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockQ6K>(blocks).iter_mut().enumerate() {
        *block = BlockQ6K::zeroed();
        for (s, slab) in quants[48 * b..48 * b + 48].as_chunks::<12>().0.iter().enumerate() {
            for o in 0..8 {
                let upper = slab[8 + o / 2] >> (4 * (o % 2));
                let low = (slab[o] & 0x0f0f_0f0f) | (upper & 0x0303_0303) << 4;
                let high = ((slab[o] >> 4) & 0x0f0f_0f0f) | ((upper >> 2) & 0x0303_0303) << 4;
                block.put_codes(64 * s + 8 * o, low);
                block.put_codes(64 * s + 8 * o + 4, high);
            }
        }
        words_to_bytes(&scales[5 * b..5 * b + 5], &mut bytemuck::bytes_of_mut(block)[BLOCK * 3 / 4..]);
    }
}

/// A part is 64 weights: the low or the high nibbles of half a block.
pub(super) struct Fast;

impl Unit<210, 4> for Fast {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 210], part: usize) -> [S::V; 4] {
        let (d, high) = (load::half(simd, block, 208), part % 2);
        let mut out = [simd.splat(0.0); 4];
        for (run, out) in out.iter_mut().enumerate() {
            let lower = load::sixteen(simd, block, 64 * (part / 2) + LANES * run);
            let upper = load::sixteen(simd, block, 128 + 32 * (part / 2) + LANES * (run % 2));
            let lower = simd.bits(lower, 4 * high, 15);
            let codes = simd.join(lower, simd.bits(upper, 4 * high + 2 * (run / 2), 3), 4);
            let scale = d * f32::from(block[192 + 4 * part + run] as i8);
            *out = load::scaled(simd, codes, (scale, -32.0 * scale));
        }
        out
    }
}
