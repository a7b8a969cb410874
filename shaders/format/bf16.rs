//! BF16: the upper half of an f32, rounded to nearest, ties to even.

use super::{Codec, SLAB, bytes_to_words, words_to_bytes};

pub(super) const CODEC: Codec = Codec {
    name: "bf16",
    ggml_id: 30,
    block_len: 1,
    block_bytes: 2,
    slab_quants: SLAB / 2,
    slab_scales: 0,
    block_scales: 0,
    decode,
    encode,
    weighted: None,
    pack_row: |blocks, quants, _| bytes_to_words(blocks, quants),
    unpack_row: |quants, _, blocks| words_to_bytes(quants, blocks),
};

fn decode(blocks: &[u8], out: &mut [f32]) {
    for (le, value) in blocks.as_chunks::<2>().0.iter().zip(out) {
        *value = half::bf16::from_le_bytes(*le).to_f32();
    }
}

fn encode(row: &[f32], out: &mut [u8]) {
    for (value, le) in row.iter().zip(out.as_chunks_mut::<2>().0) {
        *le = half::bf16::from_f32(*value).to_le_bytes();
    }
}
