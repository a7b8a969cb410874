//! What the plain floats F32, F16 and BF16 share: a block is one weight of `N` bytes, and the device holds them as they
//! are.

use super::{Codec, SLAB, bytes_to_words, words_to_bytes};

/// The codec of floats of `bytes` bytes; `decode` and `encode` are [`decode`] and [`encode`] with a conversion.
pub(super) const fn codec(
    ggml_id: u32,
    bytes: usize,
    largest: f32,
    decode: fn(&[u8], &mut [f32]),
    encode: fn(&[f32], &mut [u8]),
) -> Codec {
    Codec {
        ggml_id,
        block_len: 1,
        block_bytes: bytes,
        largest,
        smaller_blocks: None,
        slab_quants: SLAB * bytes / 4,
        slab_scales: 0,
        block_scales: 0,
        decode,
        encode,
        weighted: None,
        pack_row: |blocks, quants, _| bytes_to_words(blocks, quants),
        unpack_row: |quants, _, blocks| words_to_bytes(quants, blocks),
    }
}

/// Decodes floats of `N` bytes.
pub(super) fn decode<const N: usize>(blocks: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (le, out) in blocks.as_chunks::<N>().0.iter().zip(out) {
        *out = value(*le);
    }
}

/// Encodes floats as `N` bytes each.
pub(super) fn encode<const N: usize>(row: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    for (value, le) in row.iter().zip(out.as_chunks_mut::<N>().0) {
        *le = bytes(*value);
    }
}
