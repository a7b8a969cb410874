//! From the checkpoint's floats to blocks: which type each tensor gets, and the encoding of its rows.
//!
//! Encoding is [`loam_shaders::Format::encode_row`], whose bytes are those of llama-quantize. Rows are independent, so
//! the bytes do not depend on the number of threads.

pub mod importance;
pub mod recipe;

use std::path::Path;

use loam_shaders::Format;
use rayon::prelude::*;

use self::importance::Calibration;
use crate::architecture::{ModelTensor, Origin, permuted_row};
use crate::problem::TensorProblem;
use crate::source::{Checkpoint, View};
use crate::{Error, Result};

/// Rows are encoded in bands of about so many weights: what is held in memory is one band of blocks.
const BAND: usize = 1 << 20;

/// Encodes the tensors of a model.
#[derive(Debug, Clone, Copy)]
pub struct Encoder<'s> {
    /// The weights.
    pub weights: &'s Checkpoint,
    /// The folder or file that they are from, for errors.
    pub path: &'s Path,
    /// Threads that encode rows.
    pub pool: &'s rayon::ThreadPool,
    /// Encode NaN, infinity and overflow as they come instead of failing.
    pub allow_nonfinite: bool,
    /// What errors count by, if there is an importance matrix.
    pub calibration: Option<&'s Calibration>,
}

/// Rows of the checkpoint for the encoder.
struct Rows<'s> {
    /// Tensors with the rows from which on they are taken, one after the other.
    pieces: Vec<(&'s str, View<'s>, usize)>,
    rows: usize,
    /// Rows that each piece gives.
    rows_per_piece: usize,
    /// Weights per row.
    cols: usize,
    /// Rows per head, if the rows of a head change places.
    head_dim: Option<usize>,
    /// Added to every value.
    plus: f32,
}

impl Rows<'_> {
    /// Writes the values of row `row` to `values`.
    fn widen(&self, row: usize, values: &mut [f32]) {
        let row = self.head_dim.map_or(row, |dim| permuted_row(row as u64, dim as u64) as usize);
        let (_, view, first) = &self.pieces[row / self.rows_per_piece];
        let length = view.row_bytes(self.cols);
        view.format.decode_row(&view.bytes[(first + row % self.rows_per_piece) * length..][..length], values);
        if self.plus != 0.0 {
            values.iter_mut().for_each(|x| *x += self.plus);
        }
    }
}

/// Encodes single rows of a tensor.
struct RowEncoder {
    format: Format,
    /// What no magnitude may exceed; `None`: anything goes.
    largest: Option<f32>,
    /// Importance of the inputs, [matrices, inputs].
    weights: Option<Vec<f32>>,
    rows_per_matrix: usize,
}

/// Why a row cannot be encoded.
enum Refused {
    /// A weight is NaN or too large.
    Value,
    /// A block's scale is infinite or NaN. llama-quantize gives up there too.
    Scale,
}

impl RowEncoder {
    /// Encodes row `row`. With an importance matrix `values` are overwritten.
    fn encode(&self, row: usize, values: &mut [f32], out: &mut [u8]) -> Result<(), Refused> {
        if self.largest.is_some_and(|largest| values.iter().any(|x| beyond(*x, largest))) {
            return Err(Refused::Value);
        }
        let Some(weights) = &self.weights else {
            self.format.encode_row(values, out);
            return Ok(());
        };
        let weights = &weights[row / self.rows_per_matrix * values.len()..][..values.len()];
        self.format.encode_row_weighted(values, weights, out);
        self.format.decode_row(out, values);
        match self.largest.is_none() || values.iter().all(|x| x.is_finite()) {
            true => Ok(()),
            false => Err(Refused::Scale),
        }
    }
}

impl Encoder<'_> {
    /// Encodes `tensor` as `format`, band by band, and gives each band's bytes to `put`.
    ///
    /// # Errors
    /// [`Error::Tensor`] for NaN, infinity, or values that `format` cannot hold; errors of `put`.
    pub fn encode(&self, tensor: &ModelTensor, format: Format, mut put: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let Origin::Values(values) = &tensor.origin {
            return put(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
        }
        let rows = self.rows(tensor)?;
        let row_bytes = format.row_bytes(rows.cols);
        let problem = "row is no whole number of blocks";
        let row_bytes = row_bytes.ok_or_else(|| Error::tensor(self.path, &tensor.name, problem))?;
        let weights = match self.calibration.filter(|_| format.has_weighted_encoder()) {
            Some(calibration) => calibration.weights(&tensor.name, &tensor.shape)?,
            None => None,
        };
        let largest = if self.allow_nonfinite { None } else { Some(format.largest()) };
        let row =
            RowEncoder { format, largest, weights, rows_per_matrix: tensor.shape.get(1).map_or(1, |n| *n as usize) };
        let band = (BAND / rows.cols).clamp(1, rows.rows);
        let mut bytes = vec![0; row_bytes * band];
        for start in (0..rows.rows).step_by(band) {
            let out = &mut bytes[..row_bytes * band.min(rows.rows - start)];
            let encode = |values: &mut Vec<f32>, (i, out): (usize, &mut [u8])| {
                rows.widen(start + i, values);
                row.encode(start + i, values, out)
            };
            let encode_all =
                || out.par_chunks_mut(row_bytes).enumerate().try_for_each_init(|| vec![0.0; rows.cols], encode);
            let done = self.pool.install(encode_all);
            match done {
                Err(Refused::Value) => return Err(first_bad(&rows, format)),
                Err(Refused::Scale) => {
                    let problem = "a scale becomes infinite or NaN with this importance matrix; convert without it";
                    return Err(Error::tensor(self.path, &tensor.name, problem));
                }
                Ok(()) => {}
            }
            put(out)?;
        }
        Ok(())
    }

    fn rows<'t>(&'t self, tensor: &'t ModelTensor) -> Result<Rows<'t>> {
        let Origin::Checkpoint { pieces: named, permuted_heads, plus } = &tensor.origin else {
            return Err(Error::tensor(self.path, &tensor.name, "is not in the checkpoint"));
        };
        let mut pieces = Vec::with_capacity(named.len());
        for piece in named {
            let view = self.weights.tensor(&piece.name)?;
            let view = view.ok_or_else(|| Error::tensor(self.path, &piece.name, "is missing"))?;
            pieces.push((piece.name.as_str(), view, piece.row as usize));
        }
        let (rows, cols) = match (tensor.shape.len(), permuted_heads) {
            // A bias whose elements change places: rows of one element.
            (1, Some(_)) => (tensor.cols() as usize, 1),
            _ => (tensor.rows() as usize, tensor.cols() as usize),
        };
        let head_dim = permuted_heads.map(|heads| rows / heads as usize);
        Ok(Rows { rows_per_piece: rows / pieces.len(), pieces, rows, cols, head_dim, plus: *plus })
    }
}

/// Whether `x` is NaN or larger in magnitude than `largest`.
fn beyond(x: f32, largest: f32) -> bool {
    x.is_nan() || x.abs() > largest
}

/// Says which value of a tensor cannot be encoded: the first in the order of the checkpoint, whatever thread met which.
fn first_bad(rows: &Rows<'_>, format: Format) -> Error {
    let largest = format.largest();
    let mut values = vec![0.0; rows.cols];
    let (mut path, mut name, mut found) = (rows.pieces[0].1.path, rows.pieces[0].0, (0, f32::NAN));
    'pieces: for (piece, view, row) in &rows.pieces {
        let width = view.row_bytes(rows.cols);
        let bytes = &view.bytes[row * width..][..rows.rows_per_piece * width];
        for (index, bytes) in bytes.chunks(width).enumerate() {
            view.format.decode_row(bytes, &mut values);
            if let Some(at) = values.iter().position(|x| beyond(*x + rows.plus, largest)) {
                (path, name, found) = (view.path, piece, ((row + index) * rows.cols + at, values[at]));
                break 'pieces;
            }
        }
    }
    let (at, value) = found;
    let name_of = format.name();
    let problem = match value.is_finite() {
        true => {
            format!("element {at} is {value}, too large for {name_of} (limit {largest}); use another format").into()
        }
        false => TensorProblem::NotFinite { at, value },
    };
    Error::tensor(path, name, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_where_f16_and_bf16_overflow() {
        let next = |x: f32| f32::from_bits(x.to_bits() + 1);
        let f16 = Format::F16.largest();
        assert!(half::f16::from_f32(f16).is_finite() && half::f16::from_f32(next(f16)).is_infinite());
        let bf16 = Format::BF16.largest();
        assert!(half::bf16::from_f32(bf16).is_finite() && half::bf16::from_f32(next(bf16)).is_infinite());
    }

    #[test]
    fn scales_within_the_limit_stay_finite() {
        for format in Format::ALL.into_iter().filter(|format| format.block_len() > 1) {
            for sign in [1.0, -1.0] {
                let mut row = vec![0.0; 256];
                row[5] = format.largest() * sign;
                let mut bytes = vec![0; format.row_bytes(256).unwrap()];
                format.encode_row(&row, &mut bytes);
                let mut back = vec![0.0; 256];
                format.decode_row(&bytes, &mut back);
                assert!(back.iter().all(|x| x.is_finite()), "{format:?}");
            }
        }
    }
}
