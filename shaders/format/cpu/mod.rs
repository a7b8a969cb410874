//! Fast host decoders: GGUF blocks to vectors of 16 weights.
//!
//! A *unit* is what decodes alone: a block, a quarter of a Q4_K block, or 16 plain floats. Kernels use its vectors at
//! once ([`dot`]) or store them ([`decode`]). The decoded values are those of the codecs, bit for bit: all products of
//! scales and codes are exact in f32, and each weight rounds once.

pub(super) mod load;
mod rows;

pub use rows::{Rows, with_rows};

use super::Format;
use crate::kernel::Bind;
use crate::simd::{LANES, Simd};

/// How far ahead of a dot product its weights are asked for: without it, decoding and waiting take turns, because the
/// out-of-order window holds only a few blocks.
const PREFETCH: usize = 2048;

/// Calls `work` with the blocks of a weight of `rows` x `cols`: in place, or unpacked from the device layout, which the
/// CPU back end never binds.
///
/// # Panics
/// If the binding has another length.
fn with_blocks<R>(format: Format, (rows, cols): (usize, usize), weight: &Bind<'_>, work: impl FnOnce(&[u8]) -> R) -> R {
    match weight {
        Bind::Blocks(blocks) => {
            let expected = format.row_bytes(cols).and_then(|bytes| bytes.checked_mul(rows));
            assert_eq!(Some(blocks.len()), expected, "{format}: {rows} x {cols} weights");
            work(blocks)
        }
        packed => work(&format.unpack(rows, cols, packed.words())),
    }
}

/// How a unit of `B` bytes decodes: `G` vectors for each of its parts.
///
/// Not a closure: only `#[inline(always)]` functions are compiled with the instructions of their caller.
pub(super) trait Unit<const B: usize, const G: usize> {
    /// Parts of a unit.
    const PARTS: usize = 1;

    /// Part `part` of the unit.
    fn decode<S: Simd>(simd: S, bytes: &[u8; B], part: usize) -> [S::V; G];
}

/// `with_unit!(format, unit => expression)`: the expression with the unit of the format, whatever its type.
macro_rules! with_unit {
    ($format:expr, $unit:ident => $body:expr) => {
        formats!(match_unit, ($format, $unit, $body))
    };
}

macro_rules! match_unit {
    (($format:expr, $unit:ident, $body:expr) $($(#[$doc:meta])* $variant:ident $module:ident,)*) => {
        match $format {
            $(Format::$variant => {
                let $unit = super::$module::Fast;
                $body
            })*
        }
    };
}

crate::vectorized! {
    /// Decodes part of a row: whole blocks, and for plain floats any number of weights.
    ///
    /// # Panics
    /// If `blocks` does not hold exactly `out.len()` weights.
    pub fn decode(format: Format, blocks: &[u8], out: &mut [f32]) = decode_body
}

#[inline(always)]
fn decode_body<S: Simd>(simd: S, format: Format, blocks: &[u8], out: &mut [f32]) {
    assert_eq!(format.row_bytes(out.len()), Some(blocks.len()), "{}: {} weights", format.name(), out.len());
    with_unit!(format, unit => decode_units(unit, simd, blocks, out))
}

#[inline(always)]
fn decode_units<U: Unit<B, G>, S: Simd, const B: usize, const G: usize>(
    _unit: U,
    simd: S,
    blocks: &[u8],
    out: &mut [f32],
) {
    let (units, tail) = blocks.as_chunks::<B>();
    let (lanes, out_tail) = out.as_chunks_mut::<LANES>();
    let (parts, _) = lanes.as_chunks_mut::<G>();
    for (block, parts) in units.iter().zip(parts.chunks_exact_mut(U::PARTS)) {
        for (part, out) in parts.iter_mut().enumerate() {
            for (out, weights) in out.iter_mut().zip(U::decode(simd, block, part)) {
                simd.store(weights, out);
            }
        }
    }
    if !out_tail.is_empty() {
        let mut last = [0.0; LANES];
        simd.store(U::decode(simd, &padded(tail), 0)[0], &mut last);
        out_tail.copy_from_slice(&last[..out_tail.len()]);
    }
}

/// Columns that [`decode_columns`] decodes before it transposes them; whole blocks of every format.
pub const SLAB: usize = 256;

crate::vectorized! {
    /// Decodes up to 16 rows of `cols` weights, `row_bytes` apart, into columns: weight (row, column) becomes
    /// `out[column * stride + row]`, and 0 for the rows up to 16 that there are not. What a product reads without
    /// packing it.
    ///
    /// # Panics
    /// If `blocks` does not hold the rows, `out` the columns, or `rows` [`LANES`] times [`SLAB`] numbers.
    pub fn decode_columns(
        format: Format,
        blocks: &[u8],
        row_bytes: usize,
        cols: usize,
        rows: &mut [f32],
        out: &mut [f32],
        stride: usize,
    ) = decode_columns_body
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "two matrices with their strides")]
fn decode_columns_body<S: Simd>(
    simd: S,
    format: Format,
    blocks: &[u8],
    row_bytes: usize,
    cols: usize,
    rows: &mut [f32],
    out: &mut [f32],
    stride: usize,
) {
    let rows = rows.as_chunks_mut::<SLAB>().0.first_chunk_mut::<LANES>().expect("room for 16 rows");
    let count = blocks.len().div_ceil(row_bytes.max(1)).min(LANES);
    for missing in &mut rows[count..] {
        missing.fill(0.0);
    }
    for from in (0..cols).step_by(SLAB) {
        let width = SLAB.min(cols - from);
        let bytes = |cols: usize| cols / format.block_len() * format.block_bytes();
        for (row, blocks) in rows.iter_mut().zip(blocks.chunks_exact(row_bytes)) {
            decode_body(simd, format, &blocks[bytes(from)..][..bytes(width)], &mut row[..width]);
        }
        for at in (0..width).step_by(LANES) {
            let mut square = [simd.splat(0.0); LANES];
            for (vector, row) in square.iter_mut().zip(rows.iter()) {
                *vector = simd.load(row[at..].first_chunk().expect("slabs are whole vectors"));
            }
            let columns = simd.transpose(square);
            for (j, column) in columns.into_iter().enumerate().take(width - at) {
                simd.store(column, out[(from + at + j) * stride..].first_chunk_mut().expect("room for 16 rows"));
            }
        }
    }
}

crate::vectorized! {
    /// Dot product of a row of weights with a row of `x`: vectors of partial sums run over 16 columns at a time
    /// and are added pairwise at the end.
    ///
    /// # Panics
    /// If `blocks` does not hold as many weights as there are in `x`.
    pub fn dot(format: Format, blocks: &[u8], x: [&[f32]; 1]) -> [f32; 1] = dot_body
}
crate::vectorized! {
    /// [`dot`] with two rows of `x`, the weights decoded once.
    pub fn dot2(format: Format, blocks: &[u8], x: [&[f32]; 2]) -> [f32; 2] = dot_body
}
crate::vectorized! {
    /// [`dot`] with four rows of `x`, the weights decoded once.
    pub fn dot4(format: Format, blocks: &[u8], x: [&[f32]; 4]) -> [f32; 4] = dot_body
}

#[inline(always)]
fn dot_body<S: Simd, const T: usize>(simd: S, format: Format, blocks: &[u8], x: [&[f32]; T]) -> [f32; T] {
    for x in x {
        assert_eq!(format.row_bytes(x.len()), Some(blocks.len()), "{}: {} weights", format.name(), x.len());
    }
    with_unit!(format, unit => dot_units(unit, simd, blocks, x))
}

#[inline(always)]
fn dot_units<U: Unit<B, G>, S: Simd, const B: usize, const G: usize, const T: usize>(
    _unit: U,
    simd: S,
    blocks: &[u8],
    x: [&[f32]; T],
) -> [f32; T] {
    let mut sums = [[simd.splat(0.0); 2]; T];
    let (units, tail) = blocks.as_chunks::<B>();
    let runs = x.map(|x| x.as_chunks::<LANES>().0);
    for (index, block) in units.iter().enumerate() {
        simd.prefetch(block, PREFETCH);
        for part in 0..U::PARTS {
            let first = (index * U::PARTS + part) * G;
            let weights = U::decode(simd, block, part);
            for (sums, runs) in sums.iter_mut().zip(runs) {
                for (group, (weights, run)) in weights.iter().zip(&runs[first..first + G]).enumerate() {
                    sums[group % 2] = simd.mul_add(*weights, simd.load(run), sums[group % 2]);
                }
            }
        }
    }
    if !tail.is_empty() {
        let weights = U::decode(simd, &padded(tail), 0)[0];
        for (sums, x) in sums.iter_mut().zip(x) {
            sums[0] = simd.mul_add(weights, simd.load(&padded(x.as_chunks::<LANES>().1)), sums[0]);
        }
    }
    sums.map(|[even, odd]| simd.sum(simd.add(even, odd)))
}

/// A short slice filled up with zeros.
#[inline(always)]
fn padded<T: Copy + Default, const N: usize>(values: &[T]) -> [T; N] {
    let mut out = [T::default(); N];
    out[..values.len()].copy_from_slice(values);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of weights from -1 to 1, encoded.
    fn blocks(format: Format, weights: usize, seed: u32) -> Vec<u8> {
        let row: Vec<f32> = (0..weights as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect();
        let mut bytes = vec![0; format.row_bytes(weights).unwrap()];
        format.encode_row(&row, &mut bytes);
        bytes
    }

    #[test]
    fn rows_decode_as_their_codec_says() {
        for format in Format::ALL {
            for weights in [4, 16, 32, 36, 64, 96, 256, 300, 512, 768] {
                let Some(_) = format.row_bytes(weights) else { continue };
                let bytes = blocks(format, weights, weights as u32);
                let (mut found, mut expected) = (vec![0.0; weights], vec![0.0; weights]);
                decode(format, &bytes, &mut found);
                format.decode_row(&bytes, &mut expected);
                assert_eq!(found, expected, "{format}: {weights}");
            }
        }
    }

    #[test]
    fn columns_are_decoded_rows() {
        for format in Format::ALL {
            for (rows, cols) in [(16, 256), (5, 768), (1, if format.block_len() == 1 { 300 } else { 256 })] {
                let bytes: Vec<u8> = (0..rows as u32).flat_map(|row| blocks(format, cols, row)).collect();
                let row_bytes = format.row_bytes(cols).expect("whole blocks");
                let (mut scratch, mut found) = (vec![f32::NAN; LANES * SLAB], vec![f32::NAN; cols * 20]);
                decode_columns(format, &bytes, row_bytes, cols, &mut scratch, &mut found, 20);
                let mut expected = vec![0.0; rows * cols];
                format.decode_row(&bytes, &mut expected);
                for (column, found) in found.chunks(20).enumerate() {
                    for (row, found) in found.iter().enumerate().take(LANES) {
                        let expected = if row < rows { expected[row * cols + column] } else { 0.0 };
                        assert_eq!(*found, expected, "{format} ({row}, {column})");
                    }
                    assert!(found[LANES..].iter().all(|x| x.is_nan()), "{format}: wrote more than 16 rows");
                }
            }
        }
    }

    #[test]
    fn dot_products_agree_with_decoded_rows() {
        for format in Format::ALL {
            for weights in [4, 32, 36, 96, 256, 768] {
                let Some(_) = format.row_bytes(weights) else { continue };
                let bytes = blocks(format, weights, 7);
                let mut row = vec![0.0; weights];
                format.decode_row(&bytes, &mut row);
                let x: Vec<Vec<f32>> =
                    (0..4).map(|t| (0..weights).map(|i| ((i * 7 + t * 3) % 11) as f32 - 5.0).collect()).collect();
                let found4 = dot4(format, &bytes, [&x[0], &x[1], &x[2], &x[3]]);
                let found2 = dot2(format, &bytes, [&x[0], &x[1]]);
                let found1 = dot(format, &bytes, [&x[0]]);
                assert_eq!((found4[0], found4[1]), (found2[0], found2[1]), "{format}: rows do not influence others");
                assert_eq!(found1[0], found2[0]);
                for (found, x) in found4.iter().zip(&x) {
                    let terms = || row.iter().zip(x).map(|(w, x)| f64::from(w * x));
                    let (expected, scale) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                    assert!(
                        (f64::from(*found) - expected).abs() <= 1e-6 * scale + 1e-6,
                        "{format}: {found} {expected}"
                    );
                }
            }
        }
    }
}
