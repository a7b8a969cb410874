//! A weight's blocks by rows, for products.

use super::{decode, decode_columns, with_blocks};
use crate::format::Format;
use crate::kernel::Bind;
use crate::simd::LANES;
use crate::tiles::cuts;

/// A weight in GGUF blocks.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Block format.
    pub format: Format,
    /// Rows.
    pub rows: usize,
    row_bytes: usize,
    blocks: &'a [u8],
}

impl<'a> Rows<'a> {
    /// The blocks of a row.
    pub fn row(&self, row: usize) -> &'a [u8] {
        &self.blocks[row * self.row_bytes..][..self.row_bytes]
    }

    /// Decodes columns `from..from + cols` (whole blocks) of the rows from `row` on that fill `panel`.
    pub fn decode(&self, row: usize, from: usize, cols: usize, panel: &mut [f32]) {
        let bytes = |cols: usize| cols / self.format.block_len() * self.format.block_bytes();
        for (index, out) in panel.chunks_exact_mut(cols).enumerate() {
            decode(self.format, &self.row(row + index)[bytes(from)..][..bytes(cols)], out);
        }
    }

    /// Decodes `rows` rows of `cols` columns from `row` on into `panel[column * rows + row]`, with `rows` rounded up to
    /// whole vectors: a product takes such a panel as it is, where it would have to pack rows.
    pub fn decode_columns(&self, row: usize, rows: usize, cols: usize, slab: &mut [f32], panel: &mut [f32]) {
        let wide = rows.next_multiple_of(LANES);
        for (first, count) in cuts(rows, LANES) {
            let blocks = &self.blocks[(row + first) * self.row_bytes..][..count * self.row_bytes];
            decode_columns(self.format, blocks, self.row_bytes, cols, slab, &mut panel[first..], wide);
        }
    }
}

/// Calls `work` with the weight of `rows` x `cols` that is bound. `format`: ggml's id.
///
/// # Panics
/// If that is not the id of a [`Format`], or the binding has another length.
pub fn with_rows(format: u32, rows: u32, cols: u32, weight: &Bind<'_>, work: impl FnOnce(Rows<'_>)) {
    let format = Format::from_ggml_id(format).unwrap_or_else(|| panic!("{format} is no format of a weight"));
    let rows = rows as usize;
    with_blocks(format, (rows, cols as usize), weight, |blocks| {
        work(Rows { format, rows, row_bytes: blocks.len() / rows.max(1), blocks });
    });
}
