//! Block formats: how a row of weights is stored in a GGUF file and on the device.
//!
//! `<name>.rs` holds a format's block codec and its plane layout, `<name>.wgsl` its device loader, side by side.
//! Layouts follow ggml (`ggml-common.h`); encoders give the bytes of llama-quantize, with and without importance
//! matrix.
//!
//! # A new format
//! `<name>.rs` (`CODEC`: everything that distinguishes it, and `Fast`, its host decoder), `<name>.wgsl` (`load8`), a
//! line in
//! `list.rs` and a `mod` below. Kernels, their names, the enum, GGUF files, conversion and fallback follow. Where
//! llama-quantize makes such files, a line in the converter's `recipe.rs` gives it a name on the command line.
//! `shaders/tests/format.rs` has an independent decoder of every format, `tests/assets/blocks.json` bytes of
//! llama-quantize.
//!
//! # Device layout
//! Blocks of 18, 34 or 144 bytes straddle the words that WGSL can address, so weights are repacked once at load
//! ([`Format::pack`]): a plane with the quants of all rows, then a plane with the scales of all rows, in one buffer.
//! Rows are padded with zero weights to whole slabs of [`SLAB`] columns. A slab is eight *octets*, the unit that a
//! loader decodes: eight weights, two runs of four contiguous columns.
//!
//! | format | quant words per slab | scale words per slab | columns of octet `o` |
//! |---|---|---|---|
//! | F32 | 64 | 0 | `8o..8o+8` |
//! | F16, BF16 | 32 | 0 | `8o..8o+8` |
//! | Q8_0 | 16 | 1: f16 d of both blocks | `8o..8o+8` |
//! | Q4_0 | 8 | 1: f16 d of both blocks | `32b+4j..+4` and `32b+16+4j..+4`, b = o/4, j = o%4 |
//! | Q4_K | 8 | 1: a quarter of the 16-byte block header | `64g+4j..+4` and `64g+32+4j..+4`, g = o/8, j = o%8 |
//! | Q4_1 | 8 | 2: f16 d and m of each block | as Q4_0 |
//! | Q5_0 | 8 | 3: f16 d of both blocks, then the fifth bits of each | as Q4_0 |
//! | Q5_1 | 8 | 4: f16 d and m, then the fifth bits, of each block | as Q4_0 |
//! | Q5_K | 8 | 3: a quarter of the first 48 bytes of the block | as Q4_K |
//! | Q6_K | 12: 8 of lower four bits, 4 of upper two bits | 1.25: the 16 scales of a block, then a word with d | `8o..8o+8` |
//! | IQ4_NL | 8 | 1: f16 d of both blocks | as Q4_0 |
//! | IQ4_XS | 8 | 0.5: the 8-byte block header | as Q4_0 |
//! | MXFP4 | 8 | 1: the scale of each block as bfloat16 | as Q4_0 |
//! | Q2_K | 4: a word per two octets, `o` and `o+8` of half a block | 1.25: the 16 scales of a block, then d and dmin | as Q4_K |
//! | Q3_K | 6: as Q2_K, then after all slabs of a block its 8 words of third bits | 1: the last 14 bytes of the block | as Q4_K |
//!
//! Q6_K gathers the codes of an octet: byte i of word o holds the lower bits of weights 8o + i and 8o + 4 + i; byte i
//! of word 8 + o/2 their upper bits at 4 (o%2) and 4 (o%2) + 2.

use crate::simd::nearest_integer as nearest;

include!("list.rs");

mod affine;
pub mod bf16;
pub mod cpu;
pub mod f16;
pub mod f32;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod mxfp4;
mod plain;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
mod search;

/// The last f32 that is not rounded to an infinite f16.
const LARGEST_HALF: f32 = 65_519.996;

/// Columns that rows are padded to on the device.
pub const SLAB: usize = 64;

/// Makes [`Format`] from the list.
macro_rules! format_enum {
    ($($(#[$doc:meta])* $variant:ident $module:ident,)*) => {
        /// A weight format that kernels can compute with. Names are ggml's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types, reason = "ggml's own names")]
        pub enum Format {
            $($(#[$doc])* $variant,)*
        }

        impl Format {
            /// All formats; `ALL[i] as usize == i`.
            pub const ALL: [Format; [$(stringify!($variant)),*].len()] = [$(Format::$variant),*];

            /// Lower-case name as in kernel names and on the command line: `q4_0`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Format::$variant => stringify!($module),)*
                }
            }

            const fn codec(self) -> &'static Codec {
                match self {
                    $(Format::$variant => &$module::CODEC,)*
                }
            }
        }
    };
}

formats!(format_enum);

/// Weights, the importance of each -> whole blocks.
type WeightedEncoder = fn(&[f32], &[f32], &mut [u8]);

/// All that distinguishes one format from another, as data. Every file of this folder has one.
struct Codec {
    /// ggml's number of the type.
    ggml_id: u32,
    /// Weights per block.
    block_len: usize,
    block_bytes: usize,
    /// Largest magnitude of a weight: beyond it, the weight or the f16 scale of its block would become infinite.
    largest: f32,
    /// What llama-quantize takes for rows that are no whole number of blocks, with blocks of 32 weights.
    smaller_blocks: Option<Format>,
    /// Words of the quants plane per slab of 64 columns.
    slab_quants: usize,
    /// Words of the scales plane per slab of 64 columns.
    slab_scales: usize,
    /// Words of the scales plane per block besides: what cannot be divided among its slabs.
    block_scales: usize,
    /// Whole blocks -> weights.
    decode: fn(&[u8], &mut [f32]),
    /// Weights -> whole blocks.
    encode: fn(&[f32], &mut [u8]),
    /// Weights and the importance of each -> whole blocks; `None`: importance makes no difference.
    weighted: Option<WeightedEncoder>,
    /// Blocks of one row -> its part of the (zeroed) quants and scales planes.
    pack_row: fn(&[u8], &mut [u32], &mut [u32]),
    /// The inverse of `pack_row`.
    unpack_row: fn(&[u32], &[u32], &mut [u8]),
}

impl Format {
    /// ggml's type id, as in a GGUF tensor info.
    pub const fn ggml_id(self) -> u32 {
        self.codec().ggml_id
    }

    /// The format with this ggml type id, if kernels can compute with it.
    pub fn from_ggml_id(id: u32) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.ggml_id() == id)
    }

    /// Weights per block: 1, 32 or 256.
    pub const fn block_len(self) -> usize {
        self.codec().block_len
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        self.codec().block_bytes
    }

    /// Largest magnitude that an encoder takes: beyond it, the weight or the scale of its block would become infinite.
    pub const fn largest(self) -> f32 {
        self.codec().largest
    }

    /// The format with blocks of 32 weights that llama-quantize takes in the place of this one for rows that are no
    /// whole number of blocks; `None`: there is none.
    pub const fn smaller_blocks(self) -> Option<Format> {
        self.codec().smaller_blocks
    }

    /// Bytes of a row of `cols` weights; `None` if that is no whole number of blocks, or too large.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        let codec = self.codec();
        if !cols.is_multiple_of(codec.block_len) {
            return None;
        }
        (cols / codec.block_len).checked_mul(codec.block_bytes)
    }

    /// Decodes whole blocks into `out`.
    ///
    /// # Panics
    /// If `blocks` does not hold exactly `out.len()` weights.
    pub fn decode_row(&self, blocks: &[u8], out: &mut [f32]) {
        assert_eq!(self.row_bytes(out.len()), Some(blocks.len()), "{}: {} weights", self.name(), out.len());
        (self.codec().decode)(blocks, out);
    }

    /// Encodes finite weights into whole blocks, byte-identical to llama-quantize without importance matrix.
    ///
    /// # Panics
    /// If `out` does not have room for exactly `row.len()` weights.
    pub fn encode_row(&self, row: &[f32], out: &mut [u8]) {
        assert_eq!(self.row_bytes(row.len()), Some(out.len()), "{}: {} weights", self.name(), row.len());
        (self.codec().encode)(row, out);
    }

    /// Whether an importance matrix makes a difference to [`Format::encode_row_weighted`].
    pub const fn has_weighted_encoder(self) -> bool {
        self.codec().weighted.is_some()
    }

    /// Encodes finite weights into whole blocks, byte-identical to llama-quantize with an importance matrix.
    /// `importance`: the mean square of the input that each weight of the row is multiplied with, finite and at least
    /// 0.
    ///
    /// # Panics
    /// If `out` does not have room for exactly `row.len()` weights, or `importance` has another length than `row`.
    pub fn encode_row_weighted(&self, row: &[f32], importance: &[f32], out: &mut [u8]) {
        assert_eq!(self.row_bytes(row.len()), Some(out.len()), "{}: {} weights", self.name(), row.len());
        assert_eq!(row.len(), importance.len(), "{}: importance of {} weights", self.name(), row.len());
        match self.codec().weighted {
            Some(encode) => encode(row, importance, out),
            None => (self.codec().encode)(row, out),
        }
    }

    /// Words of the quants plane per row of `cols` weights.
    pub const fn quant_words(self, cols: usize) -> usize {
        cols.div_ceil(SLAB) * self.codec().slab_quants
    }

    /// Words of the scales plane per row of `cols` weights.
    pub const fn scale_words(self, cols: usize) -> usize {
        let codec = self.codec();
        cols.div_ceil(SLAB) * codec.slab_scales + cols / codec.block_len * codec.block_scales
    }

    /// Length of a packed weight of `rows` x `cols` in 32-bit words.
    pub const fn packed_words(self, rows: usize, cols: usize) -> u64 {
        let per_row = self.quant_words(cols) as u64 + self.scale_words(cols) as u64;
        (rows as u64).saturating_mul(per_row)
    }

    /// Repacks rows of blocks into the device layout: the quants plane of all rows, then the scales plane.
    ///
    /// # Panics
    /// If `blocks` does not hold exactly `rows` rows of `cols` weights.
    pub fn pack(&self, rows: usize, cols: usize, blocks: &[u8]) -> Vec<u32> {
        let row_bytes = self.checked_row_bytes(rows, cols, blocks.len());
        let mut words = vec![0; self.packed_words(rows, cols) as usize];
        let (quants, scales) = words.split_at_mut(rows * self.quant_words(cols));
        let (per_quants, per_scales) = (self.quant_words(cols), self.scale_words(cols));
        for (row, bytes) in blocks.chunks_exact(row_bytes.max(1)).enumerate() {
            let quants = &mut quants[row * per_quants..][..per_quants];
            let scales = &mut scales[row * per_scales..][..per_scales];
            (self.codec().pack_row)(bytes, quants, scales);
        }
        words
    }

    /// The inverse of [`Format::pack`].
    ///
    /// # Panics
    /// If `words` is not `packed_words(rows, cols)` long.
    pub fn unpack(&self, rows: usize, cols: usize, words: &[u32]) -> Vec<u8> {
        assert_eq!(self.packed_words(rows, cols), words.len() as u64, "{}: {rows} x {cols}", self.name());
        let row_bytes = self.row_bytes(cols).unwrap_or(0);
        let mut blocks = vec![0; rows * row_bytes];
        let (quants, scales) = words.split_at(rows * self.quant_words(cols));
        let (per_quants, per_scales) = (self.quant_words(cols), self.scale_words(cols));
        for (row, bytes) in blocks.chunks_exact_mut(row_bytes.max(1)).enumerate() {
            let quants = &quants[row * per_quants..][..per_quants];
            let scales = &scales[row * per_scales..][..per_scales];
            (self.codec().unpack_row)(quants, scales, bytes);
        }
        blocks
    }

    fn checked_row_bytes(self, rows: usize, cols: usize, bytes: usize) -> usize {
        let row_bytes = self.row_bytes(cols).unwrap_or_else(|| panic!("{}: rows of {cols} weights", self.name()));
        assert_eq!(rows * row_bytes, bytes, "{}: {rows} x {cols} weights", self.name());
        row_bytes
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Copies bytes into words, little-endian; a last partial word is filled up with zeros.
fn bytes_to_words(bytes: &[u8], words: &mut [u32]) {
    for (chunk, word) in bytes.chunks(4).zip(words) {
        let mut le = [0; 4];
        le[..chunk.len()].copy_from_slice(chunk);
        *word = u32::from_le_bytes(le);
    }
}

/// The inverse of [`bytes_to_words`], as many bytes as `bytes` takes.
fn words_to_bytes(words: &[u32], bytes: &mut [u8]) {
    for (chunk, word) in bytes.chunks_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

/// Writes the 16-bit scale of block `index` into a plane of two scales per word.
fn put_scale(scales: &mut [u32], index: usize, le: [u8; 2]) {
    scales[index / 2] |= u32::from(u16::from_le_bytes(le)) << (16 * (index % 2));
}

/// Reads the 16-bit scale of block `index` from a plane of two scales per word.
fn get_scale(scales: &[u32], index: usize) -> [u8; 2] {
    ((scales[index / 2] >> (16 * (index % 2))) as u16).to_le_bytes()
}

/// The value of a little-endian IEEE half.
fn half(le: [u8; 2]) -> f32 {
    ::half::f16::from_le_bytes(le).to_f32()
}

/// A value rounded to a little-endian IEEE half (nearest, ties to even).
fn to_half(value: f32) -> [u8; 2] {
    ::half::f16::from_f32(value).to_le_bytes()
}

/// The reciprocal of a scale, 0 for none. Infinite for scales so small that they are stored as 0.
fn reciprocal(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The integer part of a code as C compilers for x86-64 convert it to a byte: infinity and NaN, which come from scales
/// that are stored as 0, give 0.
fn truncate(code: f32) -> u8 {
    if code.is_finite() { code as i32 as u8 } else { 0 }
}

/// The smallest and the largest of some values, the first ones on ties.
fn extremes(x: &[f32]) -> (f32, f32) {
    x.iter().fold((f32::MAX, f32::MIN), |(min, max), &v| (if v < min { v } else { min }, if v > max { v } else { max }))
}

/// 32 codes of five bits as in Q5_0 and Q5_1: the fifth bits, then the lower four in ggml's nibble order.
fn fives(codes: &[u8; 32]) -> ([u8; 4], [u8; 16]) {
    let bits = codes.iter().rev().fold(0u32, |bits, code| bits << 1 | u32::from(code >> 4));
    (bits.to_le_bytes(), std::array::from_fn(|j| codes[j] & 15 | (codes[j + 16] & 15) << 4))
}

/// Blocks whose largest magnitude, or scale, is smaller count as zeros (ggml's `GROUP_MAX_EPS`).
const EPSILON: f32 = 1e-15;
