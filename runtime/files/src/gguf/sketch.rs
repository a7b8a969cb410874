//! Sketches of weights: which model a file holds, whatever its weights were rounded to.
//!
//! A tensor's sketch is [`SUMS`] sums of its weights, each weight in one of them with a sign, both by its place. Such
//! sums keep lengths and angles (a count sketch): rounding moves them as far as it moves the weights, a few percent,
//! and the weights of another model lead to sums at a right angle. Vectors (norms, biases, divisors of frequencies) are
//! not quantised, so theirs have to agree closely.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::error::Result;
use crate::gguf::{Array, GgufFile, OUTPUT, Strings, TensorInfo, Value};
use crate::threads;

/// Sums of a tensor.
pub const SUMS: usize = 32;
/// Metadata key: the names of the tensors that were sketched.
const TENSORS: &str = "loam.base.sketch.tensors";
/// Metadata key: their sums, one tensor's after the other's.
const VALUES: &str = "loam.base.sketch.sums";
/// About so many weights of a tensor are looked at, in whole rows that are spread over it.
const LOOKED_AT: u64 = 1 << 16;
/// Largest squared distance of a vector's sums, relative to their length: 0.3 %, what bf16 loses and more.
const VECTOR: f64 = 0.003 * 0.003;
/// Largest squared distance of a matrix's sums: 2 bits lose about 0.1, other weights come to about 2.
const MATRIX: f64 = 1.0;
/// Largest mean of the squared distances of all matrices.
const MEAN: f64 = 0.3;

/// Sums of the weights of all tensors of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch {
    tensors: Vec<Sums>,
}

/// The sums of one tensor.
#[derive(Debug, Clone, PartialEq)]
struct Sums {
    name: String,
    values: [f32; SUMS],
}

impl Sketch {
    /// Of the tensors of `file`, sorted by name.
    ///
    /// # Errors
    /// [`crate::Error::Io`]; [`crate::Error::Tensor`] for a type that cannot be decoded.
    pub(crate) fn of(file: &GgufFile) -> Result<Sketch> {
        let tensors: Vec<&TensorInfo> = file.gguf.tensors_by_name().collect();
        let sums = |tensor: &&TensorInfo| Ok(Sums { name: tensor.name.clone(), values: sums(file, tensor)? });
        let tensors = match threads::pool(None) {
            Ok(pool) => pool.install(|| tensors.par_iter().map(sums).collect::<Result<_>>())?,
            Err(_) => tensors.iter().map(sums).collect::<Result<_>>()?,
        };
        Ok(Sketch { tensors })
    }

    /// The sketch that `get` finds in an adapter's metadata, if there is one.
    pub fn from_metadata<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> Option<Sketch> {
        let (Value::Array(Array::String(names)), Value::Array(Array::F32(values))) = (get(TENSORS)?, get(VALUES)?)
        else {
            return None;
        };
        let (values, rest) = values.as_chunks::<SUMS>();
        let is_whole = rest.is_empty() && values.len() == names.len();
        let sums = |(name, &values): (&[u8], _)| Sums { name: String::from_utf8_lossy(name).into_owned(), values };
        is_whole.then(|| Sketch { tensors: names.iter().zip(values).map(sums).collect() })
    }

    /// Keys and values for an adapter's metadata.
    pub fn metadata(&self) -> [(String, Value); 2] {
        let names: Strings = self.tensors.iter().map(|sums| sums.name.as_str()).collect();
        let values: Vec<f32> = self.tensors.iter().flat_map(|sums| sums.values).collect();
        [(TENSORS.into(), names.into()), (VALUES.into(), values.into())]
    }

    /// The name of the tensor that differs most from that of `other`, if they are not two quantisations of one model.
    /// A head that is the embedding in one of them, and a tensor of its own in the other, is no difference.
    pub fn difference(&self, other: &Sketch, is_vector: impl Fn(&str) -> bool) -> Option<String> {
        let mut distances: Vec<(&str, f64)> = Vec::new();
        let others: HashMap<&str, &Sums> = other.named().collect();
        let mine: HashMap<&str, &Sums> = self.named().collect();
        if let Some((name, _)) = other.named().find(|(name, _)| !mine.contains_key(name)) {
            return Some(name.to_owned());
        }
        for (name, sums) in self.named() {
            let Some(other) = others.get(name) else { return Some(name.to_owned()) };
            distances.push((name, distance(&sums.values, &other.values)));
        }
        let limit = |name: &str| if is_vector(name) { VECTOR } else { MATRIX };
        let is_near = |name: &str, distance: f64| distance <= limit(name);
        // Also what is no number is too far.
        if let Some((name, _)) = distances.iter().find(|(name, distance)| !is_near(name, *distance)) {
            return Some((*name).to_owned());
        }
        let matrices: Vec<_> = distances.into_iter().filter(|(name, _)| !is_vector(name)).collect();
        let mean = matrices.iter().map(|(_, distance)| distance).sum::<f64>() / matrices.len().max(1) as f64;
        let furthest = matrices.iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
        furthest.filter(|_| mean > MEAN).map(|(name, _)| (*name).to_owned())
    }

    /// What is compared.
    fn named(&self) -> impl Iterator<Item = (&str, &Sums)> {
        self.tensors.iter().filter(|sums| sums.name != OUTPUT).map(|sums| (sums.name.as_str(), sums))
    }
}

/// The squared distance of two vectors, relative to the product of their lengths: 0 for the same, about 2 for unrelated
/// ones of one length.
fn distance(a: &[f32; SUMS], b: &[f32; SUMS]) -> f64 {
    let square = |x: f64| x * x;
    let length = |v: &[f32; SUMS]| v.iter().map(|&x| square(f64::from(x))).sum::<f64>().sqrt();
    let apart: f64 = a.iter().zip(b).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    // Two tensors of zeros are alike.
    if apart == 0.0 { 0.0 } else { apart / (length(a) * length(b)) }
}

/// The sums of a tensor.
fn sums(file: &GgufFile, tensor: &TensorInfo) -> Result<[f32; SUMS]> {
    let format = tensor
        .ty
        .format()
        .ok_or_else(|| file.gguf.tensor_error(&tensor.name, crate::TensorProblem::Type { ty: tensor.ty.name() }))?;
    let (bytes, rows, cols) = (file.bytes(tensor)?, tensor.rows(), tensor.cols());
    let looked_at = LOOKED_AT.div_ceil(cols.max(1)).min(rows);
    // The reader has checked that the data is whole rows of whole blocks.
    let row_bytes = bytes.bytes().len() / rows.max(1) as usize;
    let mut row = vec![0.0; cols as usize];
    let mut sums = [0.0f64; SUMS];
    for index in (0..looked_at).map(|i| i * rows / looked_at) {
        let start = index as usize * row_bytes;
        format.decode_row(&bytes.bytes()[start..start + row_bytes], &mut row);
        for (place, &weight) in (index * cols..).zip(&row) {
            let random = mixed(place);
            let weight = f64::from(weight);
            sums[random as usize % SUMS] += if random >> 63 == 0 { weight } else { -weight };
        }
    }
    Ok(sums.map(|sum| sum as f32))
}

/// 64 bits that depend on all of `place` (the end of splitmix64).
fn mixed(place: u64) -> u64 {
    let z = place.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
