//! Q4_K: 256 weights `d * scale_j * q - dmin * min_j`, q in 0..=15, eight sub-blocks j of 32 weights.
//!
//! The encoder is ggml's `quantize_row_q4_K_ref`: a weighted affine search per sub-block, scales and minima rounded to
//! 6 bits, codes chosen again on the rounded grid.

use bytemuck::{Pod, Zeroable};

use super::{Codec, bytes_to_words, half, to_half, words_to_bytes};

/// Weights per block.
pub const BLOCK: usize = 256;
/// Weights per sub-block.
const SUB: usize = 32;
/// Largest code.
const MAX_CODE: f32 = 15.0;

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
        let s = &self.scales;
        if j < 4 {
            (s[j] & 63, s[j + 4] & 63)
        } else {
            ((s[j + 4] & 15) | (s[j - 4] >> 6) << 4, (s[j + 4] >> 4) | (s[j] >> 6) << 4)
        }
    }
}

pub(super) const CODEC: Codec = Codec {
    name: "q4_k",
    ggml_id: 12,
    block_len: BLOCK,
    block_bytes: size_of::<BlockQ4K>(),
    slab_quants: 8,
    slab_scales: 1,
    decode,
    encode,
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

fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockQ4K>(out)) {
        *block = encode_block(x);
    }
}

fn encode_block(x: &[f32; BLOCK]) -> BlockQ4K {
    let subs = x.as_chunks::<SUB>().0;
    let mut codes = [[0u8; SUB]; BLOCK / SUB];
    let (mut scales, mut mins) = ([0.0f32; 8], [0.0f32; 8]);
    for j in 0..8 {
        (scales[j], mins[j]) = search(&subs[j], &mut codes[j]);
    }
    let max_scale = scales.iter().fold(0.0f32, |most, &v| if v > most { v } else { most });
    let max_min = mins.iter().fold(0.0f32, |most, &v| if v > most { v } else { most });
    let mut block = BlockQ4K { d: to_half(max_scale / 63.0), dmin: to_half(max_min / 63.0), ..Zeroable::zeroed() };
    block.scales = pack_scales(&six_bits(&scales, max_scale), &six_bits(&mins, max_min));
    for j in 0..8 {
        recode(&block, j, &subs[j], &mut codes[j]);
    }
    for (bytes, [low, high]) in block.qs.as_chunks_mut::<SUB>().0.iter_mut().zip(codes.as_chunks::<2>().0) {
        for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
            *byte = low | high << 4;
        }
    }
    block
}

/// ggml's `make_qkx2_quants` for one sub-block with 21 trials: the scale and (negated) minimum of lowest weighted
/// squared error, weights being sqrt(mean x^2) + |x|. An accepted minimum replaces the one that later trials use.
fn search(x: &[f32; SUB], codes: &mut [u8; SUB]) -> (f32, f32) {
    let mean_square = x.iter().fold(0.0f32, |sum, v| sum + v * v) / SUB as f32;
    let root = mean_square.sqrt();
    let weights = x.map(|v| root + v.abs());
    let sum_w = weights[1..].iter().fold(weights[0], |sum, w| sum + w);
    let sum_x = (1..SUB).fold(weights[0] * x[0], |sum, i| sum + weights[i] * x[i]);
    let mut min = x.iter().fold(x[0], |least, &v| if v < least { v } else { least }).min(0.0);
    let max = x.iter().fold(x[0], |most, &v| if v > most { v } else { most });
    if max == min {
        return (0.0, -min);
    }
    let inverse = MAX_CODE / (max - min);
    let mut scale = 1.0 / inverse;
    *codes = x.map(|v| code(inverse * (v - min)));
    let mut best = error(x, &weights, codes, scale, min);
    for trial in 0..=20 {
        let inverse = (-1.0 + 0.1 * trial as f32 + MAX_CODE) / (max - min);
        let candidate = x.map(|v| code(inverse * (v - min)));
        let Some((new_scale, new_min)) = least_squares(x, &weights, &candidate, sum_w, sum_x) else { continue };
        let new_error = error(x, &weights, &candidate, new_scale, new_min);
        if new_error < best {
            (*codes, best, scale, min) = (candidate, new_error, new_scale, new_min);
        }
    }
    (scale, -min)
}

/// Scale and minimum (at most 0) that fit the codes best; `None` if the system is singular.
fn least_squares(x: &[f32; SUB], w: &[f32; SUB], codes: &[u8; SUB], sum_w: f32, sum_x: f32) -> Option<(f32, f32)> {
    let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0f32, 0.0f32, 0.0f32);
    for i in 0..SUB {
        let l = f32::from(codes[i]);
        sum_l += w[i] * l;
        sum_l2 += w[i] * l * l;
        sum_xl += w[i] * l * x[i];
    }
    let determinant = sum_w * sum_l2 - sum_l * sum_l;
    if determinant.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
        return None;
    }
    let min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    if min > 0.0 {
        return Some((sum_xl / sum_l2, 0.0));
    }
    Some(((sum_w * sum_xl - sum_x * sum_l) / determinant, min))
}

fn error(x: &[f32; SUB], w: &[f32; SUB], codes: &[u8; SUB], scale: f32, min: f32) -> f32 {
    let mut sum = 0.0;
    for i in 0..SUB {
        let diff = scale * f32::from(codes[i]) + min - x[i];
        sum += w[i] * (diff * diff);
    }
    sum
}

/// Chooses the codes of sub-block `j` again on the grid that its stored scale and minimum give.
fn recode(block: &BlockQ4K, j: usize, x: &[f32; SUB], codes: &mut [u8; SUB]) {
    let (scale, min) = block.scale_min(j);
    let d = half(block.d) * f32::from(scale);
    if d != 0.0 {
        let min = half(block.dmin) * f32::from(min);
        *codes = x.map(|v| code((v + min) / d));
    }
}

fn six_bits(values: &[f32; 8], max: f32) -> [u8; 8] {
    let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
    values.map(|v| nearest(inverse * v).clamp(0.0, 63.0) as u8)
}

/// The inverse of [`BlockQ4K::scale_min`] for all eight pairs.
fn pack_scales(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        packed[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        packed[j + 8] = (scales[j + 4] & 15) | (mins[j + 4] & 15) << 4;
    }
    packed
}

fn code(value: f32) -> u8 {
    nearest(value).clamp(0.0, MAX_CODE) as u8
}

/// Rounds to the nearest integer, ties to even, for magnitudes below 2^22: adding 1.5 * 2^23 leaves no fraction bits.
/// Faster than `round_ties_even`, which is a library call on x86-64 without SSE4.1.
fn nearest(value: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    (value + MAGIC) - MAGIC
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
