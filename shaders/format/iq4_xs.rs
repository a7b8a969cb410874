//! IQ4_XS: 256 weights `d * (scale_j - 32) * VALUES[q]`, q in 0..=15 an index of IQ4_NL's levels, eight sub-blocks j of
//! 32 weights.
//!
//! The encoder is ggml's `quantize_iq4_xs` without importance matrix: IQ4_NL's search for the scale of each sub-block,
//! scales rounded to 6 bits, codes chosen again with the rounded scales.

use bytemuck::{Pod, Zeroable};

use super::iq4_nl::{VALUES, nearest_level, search};
use super::{Codec, bytes_to_words, half, nearest, to_half, words_to_bytes};

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
    name: "iq4_xs",
    ggml_id: 23,
    block_len: BLOCK,
    block_bytes: size_of::<BlockIQ4XS>(),
    slab_quants: 8,
    slab_scales: 0,
    block_scales: 2,
    decode,
    encode,
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

fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockIQ4XS>(out)) {
        *block = encode_block(x);
    }
}

/// The scales are rounded and codes are chosen with the f32 scale of the block; only the stored one is a half.
fn encode_block(x: &[f32; BLOCK]) -> BlockIQ4XS {
    let subs = x.as_chunks::<SUB>().0;
    let scales: [f32; SUBS] = std::array::from_fn(|j| search(&subs[j]));
    let most = scales.iter().fold(0.0f32, |most, &v| if v.abs() > most.abs() { v } else { most });
    let d = -most / ZERO;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let mut block = BlockIQ4XS { d: to_half(d), ..Zeroable::zeroed() };
    for (j, x) in subs.iter().enumerate() {
        let scale = nearest(inverse * scales[j]).clamp(-ZERO, ZERO - 1.0);
        let step = d * scale;
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        for (i, byte) in block.qs[SUB / 2 * j..][..SUB / 2].iter_mut().enumerate() {
            *byte = nearest_level(inverse * x[i]) | nearest_level(inverse * x[i + SUB / 2]) << 4;
        }
        block.put_scale(j, (scale + ZERO) as u8);
    }
    block
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
