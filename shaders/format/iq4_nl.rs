//! IQ4_NL: 32 weights `d * VALUES[q]` with q in 0..=15: levels that are denser near zero.
//!
//! The encoder is ggml's `quantize_iq4_nl` without importance matrix: a search for the scale of least squared error, every
//! weight counting as its square.

use bytemuck::{Pod, Zeroable};

use super::{Codec, bytes_to_words, get_scale, half, put_scale, to_half, words_to_bytes};

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
    name: "iq4_nl",
    ggml_id: 20,
    block_len: BLOCK,
    block_bytes: size_of::<BlockIQ4NL>(),
    slab_quants: 8,
    slab_scales: 1,
    block_scales: 0,
    decode,
    encode,
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
fn encode(row: &[f32], out: &mut [u8]) {
    for (x, block) in row.as_chunks::<BLOCK>().0.iter().zip(bytemuck::cast_slice_mut::<u8, BlockIQ4NL>(out)) {
        let d = search(x);
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let code = |v: f32| nearest_level(v * inverse);
        block.d = to_half(d);
        for (j, byte) in block.qs.iter_mut().enumerate() {
            *byte = code(x[j]) | code(x[j + BLOCK / 2]) << 4;
        }
    }
}

/// The scale of least weighted squared error among 16 trials: the extreme value at level 127, then at -134 to -120.
pub(super) fn search(x: &[f32; BLOCK]) -> f32 {
    let extreme = x.iter().fold(0.0f32, |most, &v| if v.abs() > most.abs() { v } else { most });
    if extreme.abs() < super::EPSILON {
        return 0.0;
    }
    let (sum_qx, sum_q2) = sums(x, 1.0 / (extreme / 127.0));
    let mut d = sum_qx / sum_q2;
    let mut best = d * sum_qx;
    for trial in -7i8..=7 {
        let (sum_qx, sum_q2) = sums(x, (f32::from(trial) + f32::from(VALUES[0])) / extreme);
        if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
            d = sum_qx / sum_q2;
            best = d * sum_qx;
        }
    }
    d
}

/// Sums of w q x and w q^2 with w = x^2, q being the levels nearest to `inverse * x`.
fn sums(x: &[f32; BLOCK], inverse: f32) -> (f32, f32) {
    x.iter().fold((0.0, 0.0), |(sum_qx, sum_q2), v| {
        let (w, q) = (v * v, f32::from(VALUES[usize::from(nearest_level(inverse * v))]));
        (sum_qx + w * q * v, sum_q2 + w * q * q)
    })
}

/// Index of the level nearest to `value`, the upper one on ties.
pub(super) fn nearest_level(value: f32) -> u8 {
    let upper = VALUES.partition_point(|level| f32::from(*level) <= value).min(15);
    let lower = upper.saturating_sub(1);
    let (below, above) = (f32::from(VALUES[lower]), f32::from(VALUES[upper]));
    if value - below < above - value { lower as u8 } else { upper as u8 }
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
