//! Q8_0: 32 weights `d * q` with q in -128..=127.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::{
    Codec, LARGEST_HALF, bytes_to_words, get_scale, half, put_scale, reciprocal, to_half, truncate, words_to_bytes,
};
use crate::simd::{LANES, Simd};

/// Weights per block.
pub const BLOCK: usize = 32;

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Scale, little-endian IEEE half.
    pub d: [u8; 2],
    /// Quants in order.
    pub qs: [i8; BLOCK],
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 8,
    block_len: BLOCK,
    block_bytes: size_of::<BlockQ8_0>(),
    // d = max / 127.
    largest: LARGEST_HALF * 127.0,
    smaller_blocks: None,
    slab_quants: 16,
    slab_scales: 1,
    block_scales: 0,
    decode,
    encode,
    weighted: None,
    pack_row,
    unpack_row,
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockQ8_0>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let d = half(block.d);
        for (q, value) in block.qs.iter().zip(out) {
            *value = f32::from(*q) * d;
        }
    }
}

/// d = max|x| / 127, q = x / d rounded half away from zero; d is stored as a half, quants use the f32 value.
fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockQ8_0>(out)) {
        let d = x.iter().fold(0.0f32, |most, v| most.max(v.abs())) / 127.0;
        let inverse = reciprocal(d);
        block.d = to_half(d);
        block.qs = x.map(|v| truncate((v * inverse).round()) as i8);
    }
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockQ8_0>(blocks).iter().enumerate() {
        bytes_to_words(bytemuck::cast_slice(&block.qs), &mut quants[8 * b..8 * b + 8]);
        put_scale(scales, b, block.d);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockQ8_0>(blocks).iter_mut().enumerate() {
        words_to_bytes(&quants[8 * b..8 * b + 8], bytemuck::cast_slice_mut(&mut block.qs));
        block.d = get_scale(scales, b);
    }
}

/// A block.
pub(super) struct Fast;

impl Unit<34, 2> for Fast {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 34], _part: usize) -> [S::V; 2] {
        let d = simd.splat(load::half(simd, block, 0));
        [simd.mul(d, simd.load_i8(load::bytes(block, 2))), simd.mul(d, simd.load_i8(load::bytes(block, 2 + LANES)))]
    }
}
