//! Q2_K: 256 weights `d * scale_j * q - dmin * min_j`, q in 0..=3, sixteen sub-blocks j of 16 weights.
//!
//! The encoder is ggml's `quantize_row_q2_K_ref`: the affine search of Q4_K with weights |x| and absolute errors,
//! scales and minima rounded to 4 bits, codes chosen again on the rounded grid.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::search::affine::{Error, Grid, search16};
use super::search::lanes;
use super::{
    Codec, Format, LARGEST_HALF, bytes_to_words, get_scale, half, nearest, put_scale, to_half, words_to_bytes,
};
use crate::simd::{LANES, Simd};

/// Weights per block.
pub const BLOCK: usize = 256;
/// Weights per sub-block.
const SUB: usize = 16;
/// Sub-blocks of a block.
const SUBS: usize = BLOCK / SUB;

const GRID: Grid = Grid { max_code: 3.0, first: -0.5, step: 0.1, trials: 16, error: Error::Absolute };

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ2K {
    /// Scale of a sub-block in the low nibble, its minimum in the high one.
    pub scales: [u8; SUBS],
    /// Half h of 128 weights has bytes 32h..32h + 32: byte l holds weights l, l + 32, l + 64 and l + 96.
    pub qs: [u8; BLOCK / 4],
    /// Scale of the scales, little-endian IEEE half.
    pub d: [u8; 2],
    /// Scale of the minima, little-endian IEEE half.
    pub dmin: [u8; 2],
}

impl BlockQ2K {
    /// What sub-block `j` multiplies its codes with and then subtracts.
    fn scale_min(&self, j: usize) -> (f32, f32) {
        let packed = self.scales[j];
        (half(self.d) * f32::from(packed & 15), half(self.dmin) * f32::from(packed >> 4))
    }
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 10,
    block_len: BLOCK,
    block_bytes: size_of::<BlockQ2K>(),
    // d = max / 3 / 15, and dmin = min / 15.
    largest: LARGEST_HALF * 15.0,
    smaller_blocks: Some(Format::IQ4_NL),
    slab_quants: 4,
    slab_scales: 1,
    block_scales: 1,
    decode,
    encode,
    weighted: None,
    pack_row,
    unpack_row,
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockQ2K>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        for (j, out) in out.as_chunks_mut::<SUB>().0.iter_mut().enumerate() {
            let (scale, min) = block.scale_min(j);
            let (run, first) = (j / 2, 32 * (j / 8) + SUB * (j % 2));
            for (byte, value) in block.qs[first..].iter().zip(out) {
                *value = scale * f32::from((byte >> (2 * (run % 4))) & 3) - min;
            }
        }
    }
}

fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockQ2K>(out)) {
        *block = encode_block(x);
    }
}

fn encode_block(x: &[f32; BLOCK]) -> BlockQ2K {
    let subs = x.as_chunks::<SUB>().0;
    let mut codes = [[0u8; SUB]; SUBS];
    let fit = search16(&lanes(subs), &lanes(x.map(f32::abs).as_chunks().0), &GRID);
    let mut block = BlockQ2K::zeroed();
    let (d, scales) = four_bits(&fit.scale);
    let (dmin, mins) = four_bits(&fit.min);
    (block.d, block.dmin) = (d, dmin);
    for (j, packed) in block.scales.iter_mut().enumerate() {
        *packed = scales[j] | mins[j] << 4;
    }
    for (j, x) in subs.iter().enumerate() {
        let (scale, min) = block.scale_min(j);
        codes[j] = if scale == 0.0 {
            fit.codes(j, x, GRID.max_code)
        } else {
            x.map(|v| nearest((v + min) / scale).clamp(0.0, GRID.max_code) as u8)
        };
    }
    for (i, code) in codes.as_flattened().iter().enumerate() {
        let (run, l) = (i / 32, i % 32);
        block.qs[32 * (run / 4) + l] |= code << (2 * (run % 4));
    }
    block
}

/// Values of at least zero as multiples, at most 15, of a half.
fn four_bits(values: &[f32; SUBS]) -> ([u8; 2], [u8; SUBS]) {
    let max = values.iter().fold(0.0f32, |most, &v| if v > most { v } else { most });
    if max == 0.0 {
        return ([0; 2], [0; SUBS]);
    }
    let inverse = 15.0 / max;
    (to_half(max / 15.0), values.map(|v| nearest(inverse * v) as u8))
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockQ2K>(blocks).iter().enumerate() {
        let words = &mut scales[5 * b..5 * b + 5];
        bytes_to_words(&block.qs, &mut quants[16 * b..16 * b + 16]);
        bytes_to_words(&block.scales, &mut words[..4]);
        put_scale(&mut words[4..], 0, block.d);
        put_scale(&mut words[4..], 1, block.dmin);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockQ2K>(blocks).iter_mut().enumerate() {
        let words = &scales[5 * b..5 * b + 5];
        words_to_bytes(&quants[16 * b..16 * b + 16], &mut block.qs);
        words_to_bytes(&words[..4], &mut block.scales);
        (block.d, block.dmin) = (get_scale(&words[4..], 0), get_scale(&words[4..], 1));
    }
}

/// A part is half of the bits of 32 bytes: sixteen weights each of sub-blocks 4 * part to 4 * part + 3.
pub(super) struct Fast;

impl Unit<84, 4> for Fast {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 84], part: usize) -> [S::V; 4] {
        let (d, dmin) = (load::half(simd, block, 80), load::half(simd, block, 82));
        let mut out = [simd.splat(0.0); 4];
        for (run, out) in out.iter_mut().enumerate() {
            let quants = load::sixteen(simd, block, 16 + 32 * (part / 2) + LANES * (run % 2));
            let scales = block[4 * part + run];
            let affine = (d * f32::from(scales & 15), -dmin * f32::from(scales >> 4));
            *out = load::scaled(simd, simd.bits(quants, 4 * (part % 2) + 2 * (run / 2), 3), affine);
        }
        out
    }
}
