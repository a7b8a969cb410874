//! The update of one weight, and how its two halves lie in an adapter file.

use std::path::Path;

use super::{adapter_error, decode};
use crate::error::{Error, Result};
use crate::gguf::{Gguf, GgufFile, TOKEN_EMBD, TensorInfo, printable};

/// Values beyond this are a broken file: the product of two of them still is far from the end of f32.
pub(super) const MAX_VALUE: f32 = 1e9;
/// Largest rank: more than any weight has rows.
const MAX_RANK: usize = 1 << 16;

/// A low-rank update of a weight W [out, in], or of each of several of them that lie one below the other (experts).
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// A, [rank, in], row-major; one for each matrix. Of the token embedding its transpose [tokens, rank], so that what a
    /// token adds is one row.
    pub a: Vec<f32>,
    /// B, [out, rank], row-major; one for each matrix.
    pub b: Vec<f32>,
    /// Rank of the update.
    pub rank: usize,
    /// How many matrices the weight is made of: its experts, or 1.
    pub matrices: usize,
}

/// Whether rows of the weight `name` are looked up. Its map is from tokens to rows: `in` is the vocabulary, and A is stored
/// as its transpose.
pub fn is_lookup(name: &str) -> bool {
    name == TOKEN_EMBD
}

impl Pair {
    /// Input features of a matrix; of the embedding its tokens.
    pub fn inner(&self) -> usize {
        self.a.len() / self.rank.saturating_mul(self.matrices).max(1)
    }

    /// Output features of a matrix; of the embedding its width.
    pub fn rows(&self) -> usize {
        self.b.len() / self.rank.saturating_mul(self.matrices).max(1)
    }

    /// Reads the two halves of the update of `name`.
    pub(super) fn read(file: &GgufFile, name: &str, [a, b]: [&TensorInfo; 2]) -> Result<Pair> {
        let (rank, matrices) = checked_shapes(&file.gguf, name, [a, b])?;
        Ok(Pair { a: decode(file, a)?, b: decode(file, b)?, rank, matrices })
    }

    /// Shapes of `lora_a` and `lora_b` in GGUF's order, which has the row length first.
    pub(super) fn shapes(&self, name: &str) -> [Vec<u64>; 2] {
        let (inner, rank, rows) = (self.inner() as u64, self.rank as u64, self.rows() as u64);
        let a = if is_lookup(name) { [rank, inner] } else { [inner, rank] };
        let stack = (self.matrices > 1).then_some(self.matrices as u64);
        [a, [rank, rows]].map(|shape| shape.into_iter().chain(stack).collect())
    }

    /// Checks that the update fits the tensor `weight` of a base.
    pub(super) fn check_fit(&self, name: &str, weight: &TensorInfo) -> std::result::Result<(), String> {
        let (inner, rows) = (self.inner() as u64, self.rows() as u64);
        let fits = if is_lookup(name) { [rows, inner] } else { [inner, rows] };
        let fits = [fits[0], fits[1], self.matrices as u64];
        let mut has = [1; 3];
        for (has, &n) in has.iter_mut().zip(&weight.shape) {
            *has = n;
        }
        if weight.shape.len() <= 3 && fits == has {
            return Ok(());
        }
        // As PyTorch shows shapes; a single matrix without the number of matrices.
        let shown = |shape: [u64; 3]| match shape {
            [cols, rows, 1] => format!("{:?} (out, in)", [rows, cols]),
            [cols, rows, matrices] => format!("{:?} (experts, out, in)", [matrices, rows, cols]),
        };
        Err(format!("fits a weight of {}, the base's is {}", shown(fits), shown(has)))
    }

    /// Checks lengths and values.
    pub(super) fn check(&self, path: &Path, name: &str) -> Result<()> {
        let shown = printable(name.as_bytes());
        let (inner, rows, rank, matrices) = (self.inner(), self.rows(), self.rank, self.matrices);
        // Quotients of the lengths, so that the products do not overflow.
        let whole = inner * rank * matrices == self.a.len() && rows * rank * matrices == self.b.len();
        if rank > MAX_RANK || inner == 0 || rows == 0 || !whole {
            let problem = format!("tensor {shown}: rank {rank} does not fit a weight of [{rows}, {inner}] (out, in)");
            return Err(adapter_error(path, problem));
        }
        for (half, values) in [("lora_a", &self.a), ("lora_b", &self.b)] {
            match values.iter().find(|x| x.is_nan() || x.abs() > MAX_VALUE) {
                None => {}
                Some(x) if x.is_finite() => {
                    let problem = format!("tensor {shown}.{half}: holds {x}, the limit is {MAX_VALUE}");
                    return Err(adapter_error(path, problem));
                }
                Some(_) => return Err(Error::NonFinite(format!("{}: tensor {shown}.{half}", path.display()))),
            }
        }
        Ok(())
    }
}

/// Rank and number of matrices, as the shapes of both halves of `name` have them.
fn checked_shapes(gguf: &Gguf, name: &str, [a, b]: [&TensorInfo; 2]) -> Result<(usize, usize)> {
    for half in [a, b] {
        if !(2..=3).contains(&half.shape.len()) {
            return Err(gguf.tensor_error(&half.name, format!("has {} dimensions, needs 2 or 3", half.shape.len())));
        }
    }
    let rank = b.shape[0];
    let other = if is_lookup(name) { a.shape[0] } else { a.shape[1] };
    if rank != other {
        return Err(gguf.tensor_error(&b.name, format!("has rank {rank}, its lora_a has rank {other}")));
    }
    let matrices = [a, b].map(|half| half.shape.get(2).copied().unwrap_or(1));
    if matrices[0] != matrices[1] {
        let problem = format!("is for {} matrices, its lora_a for {}", matrices[1], matrices[0]);
        return Err(gguf.tensor_error(&b.name, problem));
    }
    Ok((rank as usize, matrices[0] as usize))
}
