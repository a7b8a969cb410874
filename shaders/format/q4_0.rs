//! Q4_0: 32 weights `d * (q - 8)` with q in 0..=15.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::search::symmetric;
use super::{
    Codec, LARGEST_HALF, bytes_to_words, get_scale, half, put_scale, reciprocal, to_half, truncate, words_to_bytes,
};
use crate::simd::Simd;

/// Weights per block.
pub const BLOCK: usize = 32;

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// Scale, little-endian IEEE half.
    pub d: [u8; 2],
    /// Byte j holds weight j in its low nibble and weight j + 16 in its high nibble.
    pub qs: [u8; BLOCK / 2],
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 2,
    block_len: BLOCK,
    block_bytes: size_of::<BlockQ4_0>(),
    // d = max / -8.
    largest: LARGEST_HALF * 8.0,
    smaller_blocks: None,
    slab_quants: 8,
    slab_scales: 1,
    block_scales: 0,
    decode,
    encode,
    weighted: Some(encode_weighted),
    pack_row,
    unpack_row,
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockQ4_0>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let d = half(block.d);
        for (j, byte) in block.qs.iter().enumerate() {
            out[j] = (f32::from(byte & 15) - 8.0) * d;
            out[j + BLOCK / 2] = (f32::from(byte >> 4) - 8.0) * d;
        }
    }
}

/// The signed value of largest magnitude (the first one on ties) maps to -8. A zero block has d = -0.0, as ggml writes.
fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockQ4_0>(out)) {
        let extreme = x.iter().fold(0.0f32, |most, &v| if v.abs() > most.abs() { v } else { most });
        let d = extreme / -8.0;
        let inverse = reciprocal(d);
        let code = |v: f32| truncate(v * inverse + 8.5).min(15);
        block.d = to_half(d);
        for (j, byte) in block.qs.iter_mut().enumerate() {
            *byte = code(x[j]) | code(x[j + BLOCK / 2]) << 4;
        }
    }
}

/// The scale is searched for: the block's errors count by importance and magnitude.
fn encode_weighted(row: &[f32], importance: &[f32], out: &mut [u8]) {
    let out = bytemuck::cast_slice_mut::<u8, BlockQ4_0>(out);
    symmetric::blocks(row, importance, 8.0, |b, scale, codes| {
        out[b] = BlockQ4_0 { d: to_half(scale), qs: std::array::from_fn(|j| codes[j] | codes[j + BLOCK / 2] << 4) };
    });
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockQ4_0>(blocks).iter().enumerate() {
        bytes_to_words(&block.qs, &mut quants[4 * b..4 * b + 4]);
        put_scale(scales, b, block.d);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockQ4_0>(blocks).iter_mut().enumerate() {
        words_to_bytes(&quants[4 * b..4 * b + 4], &mut block.qs);
        block.d = get_scale(scales, b);
    }
}

/// A block.
pub(super) struct Fast;

impl Unit<18, 2> for Fast {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 18], _part: usize) -> [S::V; 2] {
        let d = load::half(simd, block, 0);
        simd.load_nibbles(load::bytes(block, 2), [(d, -8.0 * d); 2])
    }
}
