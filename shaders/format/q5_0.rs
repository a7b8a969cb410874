//! Q5_0: 32 weights `d * (q - 16)` with q in 0..=31.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::search::symmetric;
use super::{
    Codec, LARGEST_HALF, bytes_to_words, fives, get_scale, half, put_scale, reciprocal, to_half, truncate,
    words_to_bytes,
};
use crate::simd::Simd;

/// Weights per block.
pub const BLOCK: usize = 32;

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_0 {
    /// Scale, little-endian IEEE half.
    pub d: [u8; 2],
    /// Bit j of this little-endian word is the fifth bit of weight j.
    pub qh: [u8; 4],
    /// Byte j holds the lower four bits of weight j in its low nibble and of weight j + 16 in its high one.
    pub qs: [u8; BLOCK / 2],
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 6,
    block_len: BLOCK,
    block_bytes: size_of::<BlockQ5_0>(),
    // d = max / -16.
    largest: LARGEST_HALF * 16.0,
    smaller_blocks: None,
    slab_quants: 8,
    slab_scales: 3,
    block_scales: 0,
    decode,
    encode,
    weighted: Some(encode_weighted),
    pack_row,
    unpack_row,
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockQ5_0>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let (d, bits) = (half(block.d), u32::from_le_bytes(block.qh));
        for (j, byte) in block.qs.iter().enumerate() {
            let (low, high) = ((bits >> j) & 1, (bits >> (j + BLOCK / 2)) & 1);
            out[j] = (f32::from(byte & 15 | (low as u8) << 4) - 16.0) * d;
            out[j + BLOCK / 2] = (f32::from(byte >> 4 | (high as u8) << 4) - 16.0) * d;
        }
    }
}

/// The signed value of largest magnitude (the first one on ties) maps to -16. A zero block has d = -0.0, as ggml
/// writes.
fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockQ5_0>(out)) {
        let extreme = x.iter().fold(0.0f32, |most, &v| if v.abs() > most.abs() { v } else { most });
        let d = extreme / -16.0;
        let inverse = reciprocal(d);
        block.d = to_half(d);
        (block.qh, block.qs) = fives(&x.map(|v| truncate(v * inverse + 16.5).min(31)));
    }
}

/// The scale is searched for: the block's errors count by importance and magnitude.
fn encode_weighted(row: &[f32], importance: &[f32], out: &mut [u8]) {
    let out = bytemuck::cast_slice_mut::<u8, BlockQ5_0>(out);
    symmetric::blocks(row, importance, 16.0, |b, scale, codes| {
        let (qh, qs) = fives(&codes);
        out[b] = BlockQ5_0 { d: to_half(scale), qh, qs };
    });
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockQ5_0>(blocks).iter().enumerate() {
        bytes_to_words(&block.qs, &mut quants[4 * b..4 * b + 4]);
        put_scale(&mut scales[b / 2 * 3..], b % 2, block.d);
        scales[b / 2 * 3 + 1 + b % 2] = u32::from_le_bytes(block.qh);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockQ5_0>(blocks).iter_mut().enumerate() {
        words_to_bytes(&quants[4 * b..4 * b + 4], &mut block.qs);
        block.d = get_scale(&scales[b / 2 * 3..], b % 2);
        block.qh = scales[b / 2 * 3 + 1 + b % 2].to_le_bytes();
    }
}

/// A block.
pub(super) struct Fast;

impl Unit<22, 2> for Fast {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 22], _part: usize) -> [S::V; 2] {
        let d = load::half(simd, block, 0);
        load::fives(simd, load::bytes(block, 2), load::bytes(block, 6), (d, -16.0 * d))
    }
}
