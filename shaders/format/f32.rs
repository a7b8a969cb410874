//! F32: weights as they are.

use super::{Codec, SLAB, bytes_to_words, words_to_bytes};

pub(super) const CODEC: Codec = Codec {
    name: "f32",
    ggml_id: 0,
    block_len: 1,
    block_bytes: 4,
    slab_quants: SLAB,
    slab_scales: 0,
    block_scales: 0,
    decode,
    encode,
    weighted: None,
    pack_row: |blocks, quants, _| bytes_to_words(blocks, quants),
    unpack_row: |quants, _, blocks| words_to_bytes(quants, blocks),
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (le, value) in blocks.as_chunks::<4>().0.iter().zip(out) {
        *value = f32::from_le_bytes(*le);
    }
}

fn encode(row: &[f32], out: &mut [u8]) {
    for (value, le) in row.iter().zip(out.as_chunks_mut::<4>().0) {
        *le = value.to_le_bytes();
    }
}
