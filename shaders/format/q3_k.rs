//! Q3_K: 256 weights `d * (scale_j - 32) * (q - 4)`, q in 0..=7, sixteen sub-blocks j of 16 weights.
//!
//! The encoder is ggml's `quantize_row_q3_K_ref`: codes of each sub-block improved one by one, scales rounded to 6
//! bits, codes chosen again on the rounded grid.

use bytemuck::{Pod, Zeroable};

use super::cpu::{Unit, load};
use super::{Codec, EPSILON, Format, LARGEST_HALF, bytes_to_words, half, nearest, to_half, words_to_bytes};
use crate::simd::{LANES, Simd};

/// Weights per block.
pub const BLOCK: usize = 256;
/// Weights per sub-block.
const SUB: usize = 16;
/// Sub-blocks of a block.
const SUBS: usize = BLOCK / SUB;
/// What is subtracted from a stored code.
const ZERO: f32 = 4.0;
/// What is subtracted from a stored scale.
const ZERO_SCALE: f32 = 32.0;

/// A block as in a GGUF file. Alignment 1, so that any byte slice can be seen as blocks.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ3K {
    /// Upper bits of the codes: byte l holds that of weight 32r + l at bit r.
    pub hmask: [u8; BLOCK / 8],
    /// Lower two bits. Half h of 128 weights has bytes 32h..32h + 32: byte l holds weights l, l + 32, l + 64 and l +
    /// 96.
    pub qs: [u8; BLOCK / 4],
    /// Sixteen 6-bit scales.
    pub scales: [u8; 12],
    /// Scale of the scales, little-endian IEEE half.
    pub d: [u8; 2],
}

pub(super) const CODEC: Codec = Codec {
    ggml_id: 11,
    block_len: BLOCK,
    block_bytes: size_of::<BlockQ3K>(),
    // d = max / 4 / 32 or, after the search, somewhat more.
    largest: LARGEST_HALF * 64.0,
    smaller_blocks: Some(Format::IQ4_NL),
    slab_quants: 6,
    slab_scales: 1,
    block_scales: 0,
    decode,
    encode,
    weighted: None,
    pack_row,
    unpack_row,
};

/// The scale of sub-block `j`, from -32 to 31: lower four bits in the nibbles of eight bytes, upper two in four more.
#[inline(always)]
pub(super) fn scale(s: &[u8; 12], j: usize) -> i8 {
    let low = (s[j % 8] >> (4 * (j / 8))) & 15;
    let high = (s[8 + j % 4] >> (2 * (j / 4))) & 3;
    (low | high << 4) as i8 - 32
}

/// Stores a scale of 0 to 63 where zero is: the inverse of [`scale`].
fn put_scale(s: &mut [u8; 12], j: usize, stored: u8) {
    s[j % 8] |= (stored & 15) << (4 * (j / 8));
    s[8 + j % 4] |= (stored >> 4) << (2 * (j / 4));
}

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (block, out) in bytemuck::cast_slice::<u8, BlockQ3K>(blocks).iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let d = half(block.d);
        for (i, out) in out.iter_mut().enumerate() {
            let (run, l) = (i / 32, i % 32);
            let low = (block.qs[32 * (run / 4) + l] >> (2 * (run % 4))) & 3;
            let code = low | ((block.hmask[l] >> run) & 1) << 2;
            *out = d * f32::from(scale(&block.scales, i / SUB)) * (f32::from(code) - ZERO);
        }
    }
}

fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockQ3K>(out)) {
        *block = encode_block(x);
    }
}

fn encode_block(x: &[f32; BLOCK]) -> BlockQ3K {
    let subs = x.as_chunks::<SUB>().0;
    let mut codes = [[0.0f32; SUB]; SUBS];
    let mut scales = [0.0f32; SUBS];
    for j in 0..SUBS {
        (scales[j], codes[j]) = search(&subs[j]);
    }
    let most = scales.iter().fold(0.0f32, |most, &v| if v.abs() > most.abs() { v } else { most });
    let mut block = BlockQ3K::zeroed();
    if most != 0.0 {
        let inverse = -ZERO_SCALE / most;
        for (j, scale) in scales.iter().enumerate() {
            let rounded = nearest(inverse * scale).clamp(-ZERO_SCALE, ZERO_SCALE - 1.0);
            put_scale(&mut block.scales, j, (rounded + ZERO_SCALE) as u8);
        }
        block.d = to_half(1.0 / inverse);
    }
    for j in 0..SUBS {
        let d = half(block.d) * f32::from(scale(&block.scales, j));
        if d != 0.0 {
            codes[j] = subs[j].map(|v| signed(v / d));
        }
    }
    for (i, code) in codes.as_flattened().iter().enumerate() {
        let (run, l, code) = (i / 32, i % 32, (code + ZERO) as u8);
        block.qs[32 * (run / 4) + l] |= (code & 3) << (2 * (run % 4));
        block.hmask[l] |= (code >> 2) << run;
    }
    block
}

/// ggml's `make_q3_quants` with `do_rmse`: starts with the extreme value at -4, then changes single codes while that
/// lessens the squared error, weights counting as their squares. Returns the scale and the codes, from -4 to 3.
fn search(x: &[f32; SUB]) -> (f32, [f32; SUB]) {
    let extreme = x.iter().fold(0.0f32, |most, &v| if v.abs() > most.abs() { v } else { most });
    if extreme.abs() < EPSILON {
        return (0.0, [-ZERO; SUB]);
    }
    let mut codes = x.map(|v| signed(-ZERO / extreme * v));
    let (mut sum_xl, mut sum_l2) = (0.0f32, 0.0f32);
    for (v, l) in x.iter().zip(&codes) {
        let w = v * v;
        sum_xl += w * v * l;
        sum_l2 += w * l * l;
    }
    for _ in 0..5 {
        let before = codes;
        for (v, l) in x.iter().zip(&mut codes) {
            let w = v * v;
            let (rest_xl, rest_l2) = (sum_xl - w * v * *l, sum_l2 - w * *l * *l);
            if rest_xl <= 0.0 {
                continue;
            }
            let new = signed(v * rest_l2 / rest_xl);
            let (new_xl, new_l2) = (rest_xl + w * v * new, rest_l2 + w * new * new);
            if new != *l && new_l2 > 0.0 && new_xl * new_xl * sum_l2 > sum_xl * sum_xl * new_l2 {
                (*l, sum_xl, sum_l2) = (new, new_xl, new_l2);
            }
        }
        if codes == before {
            break;
        }
    }
    (if sum_l2 > 0.0 { sum_xl / sum_l2 } else { 0.0 }, codes)
}

/// The code nearest to `value`, from -4 to 3.
fn signed(value: f32) -> f32 {
    nearest(value).clamp(-ZERO, ZERO - 1.0)
}

fn pack_row(blocks: &[u8], quants: &mut [u32], scales: &mut [u32]) {
    for (b, block) in bytemuck::cast_slice::<u8, BlockQ3K>(blocks).iter().enumerate() {
        bytes_to_words(&block.qs, &mut quants[24 * b..24 * b + 16]);
        bytes_to_words(&block.hmask, &mut quants[24 * b + 16..24 * b + 24]);
        bytes_to_words(&bytemuck::bytes_of(block)[BLOCK * 3 / 8..], &mut scales[4 * b..4 * b + 4]);
    }
}

fn unpack_row(quants: &[u32], scales: &[u32], blocks: &mut [u8]) {
    for (b, block) in bytemuck::cast_slice_mut::<u8, BlockQ3K>(blocks).iter_mut().enumerate() {
        words_to_bytes(&quants[24 * b..24 * b + 16], &mut block.qs);
        words_to_bytes(&quants[24 * b + 16..24 * b + 24], &mut block.hmask);
        words_to_bytes(&scales[4 * b..4 * b + 4], &mut bytemuck::bytes_of_mut(block)[BLOCK * 3 / 8..]);
    }
}

/// A part is as in Q2_K; the third bits of 256 weights are in the same 32 bytes.
pub(super) struct Fast;

impl Unit<110, 4> for Fast {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 110], part: usize) -> [S::V; 4] {
        let d = load::half(simd, block, 108);
        let mut out = [simd.splat(0.0); 4];
        for (run, out) in out.iter_mut().enumerate() {
            let quants = load::sixteen(simd, block, 32 + 32 * (part / 2) + LANES * (run % 2));
            let third = load::sixteen(simd, block, LANES * (run % 2));
            let lower = simd.bits(quants, 4 * (part % 2) + 2 * (run / 2), 3);
            let codes = simd.join(lower, simd.bits(third, 2 * part + run / 2, 1), 2);
            let scale = d * f32::from(scale(load::bytes(block, 96), 4 * part + run));
            *out = load::scaled(simd, codes, (scale, -4.0 * scale));
        }
        out
    }
}
