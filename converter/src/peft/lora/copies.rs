//! Copies of the base's weights in a PEFT folder. PEFT saves the embedding and the head beside adapters on them, in
//! case the vocabulary was resized. They hold nothing new if they are the base's own; if not, the adapter belongs to
//! another base.

use std::path::Path;

use loam_files::gguf::{Gguf, GgufFile, TensorInfo};
use loam_files::gguf::{OUTPUT, TOKEN_EMBD};

use crate::source::View;
use crate::{Error, Result};

/// Largest ||base - copy|| / ||copy||: rounding to two bits comes to about 0.3, independent matrices to 1.4.
const MOST: f64 = 0.5;

/// Largest part of a row that may differ beyond what quantisation makes of it: rounding between f32, f16 and bf16.
const ROUNDING: f64 = 4e-3;
/// So much further than by rounding each weight on its own may a row be that was rounded by an importance matrix.
const WEIGHTED: f64 = 1.5;

/// Checks that `copy`, called `name` in the folder `dir`, is the base's weight `tensor` but for quantisation.
pub(super) fn check(dir: &Path, copy: &View<'_>, name: &str, base: &GgufFile, tensor: &str) -> Result<()> {
    let weight = same_shape(dir, copy, name, &base.gguf, tensor)?;
    let (mut difference, mut norm) = (0.0, 0.0);
    each_row(copy, base, weight, |_, ours, theirs| {
        difference += squares(ours, theirs);
        norm += squares(theirs, &[]);
    })?;
    let distance = (difference / norm).sqrt();
    if distance.is_nan() || distance > MOST {
        let problem = format!(
            "is the weight that the adapter was trained on and differs from the base's {} by {:.0} %: it is no adapter of \
             this base",
            weight.name,
            distance * 100.0
        );
        return Err(Error::tensor(dir, name, problem));
    }
    Ok(())
}

/// As [`check`], for a copy without an update beside it: row by row it is no further from the base's than quantisation
/// takes it. Training reaches the rows of some tokens only, which all rows together would hide.
pub(super) fn check_unchanged(dir: &Path, copy: &View<'_>, name: &str, base: &GgufFile, tensor: &str) -> Result<()> {
    let weight = same_shape(dir, copy, name, &base.gguf, tensor)?;
    let format = weight.ty.format();
    let (mut blocks, mut rounded) = (Vec::new(), Vec::new());
    let (mut row, mut changed) = (0_u64, None);
    each_row(copy, base, weight, |block, ours, theirs| {
        row += 1;
        blocks.resize(block.len(), 0);
        rounded.resize(theirs.len(), 0.0);
        if let Some(format) = format {
            format.encode_row(theirs, &mut blocks);
            format.decode_row(&blocks, &mut rounded);
        }
        let allowed = WEIGHTED * squares(&rounded, theirs).sqrt() + ROUNDING * squares(theirs, &[]).sqrt();
        let found = squares(ours, theirs).sqrt();
        if changed.is_none() && (found.is_nan() || found > allowed) {
            changed = Some(row - 1);
        }
    })?;
    let Some(row) = changed else { return Ok(()) };
    let problem = format!(
        "differs from the base's {} in row {row}: it was trained besides the adapter, which a GGUF adapter cannot hold; \
         convert the merged model",
        weight.name
    );
    Err(Error::tensor(dir, name, problem))
}

/// The base's weight that `copy` is one of, if it has its shape.
fn same_shape<'g>(dir: &Path, copy: &View<'_>, name: &str, base: &'g Gguf, tensor: &str) -> Result<&'g TensorInfo> {
    let Some(weight) = weight(base, tensor) else {
        return Err(Error::tensor(dir, name, format!("is a copy of {tensor}, which the base does not have")));
    };
    let has: Vec<usize> = weight.shape.iter().rev().map(|&n| n as usize).collect();
    if copy.shape != has {
        let problem = format!(
            "is the weight that the adapter was trained on and has shape {:?}, the base's {} has {has:?}: the vocabulary \
             was resized; convert the resized model",
            copy.shape, weight.name
        );
        return Err(Error::tensor(dir, name, problem));
    }
    Ok(weight)
}

/// The weight that the update called `tensor` is one of.
fn weight<'g>(base: &'g Gguf, tensor: &str) -> Option<&'g TensorInfo> {
    let tied = (tensor == OUTPUT).then(|| base.opt_tensor(TOKEN_EMBD)).flatten();
    base.opt_tensor(tensor).or(tied)
}

/// Calls `take` for each row with the base's blocks, their values and those of the copy.
fn each_row(
    copy: &View<'_>,
    base: &GgufFile,
    weight: &TensorInfo,
    mut take: impl FnMut(&[u8], &[f32], &[f32]),
) -> Result<()> {
    let Some(format) = weight.ty.format() else {
        let problem = format!("has type {}, which loam cannot decode", weight.ty.name());
        return Err(base.gguf.tensor_error(&weight.name, problem).into());
    };
    let cols = weight.cols() as usize;
    let blocks = base.bytes(weight)?;
    let row_bytes = blocks.bytes().len() / (weight.rows() as usize).max(1);
    let (mut ours, mut theirs) = (vec![0.0; cols], vec![0.0; cols]);
    let rows = blocks.bytes().chunks_exact(row_bytes.max(1));
    for (our, their) in rows.zip(copy.bytes.chunks_exact(copy.row_bytes(cols).max(1))) {
        format.decode_row(our, &mut ours);
        copy.format.decode_row(their, &mut theirs);
        take(our, &ours, &theirs);
    }
    Ok(())
}

/// The sum of the squares of `a - b`; of `a` if `b` is empty.
fn squares(a: &[f32], b: &[f32]) -> f64 {
    let b = b.iter().copied().chain(std::iter::repeat(0.0));
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(b)).powi(2)).sum()
}
