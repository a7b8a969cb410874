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

/// Checks that `copy`, called `name` in the folder `dir`, is the base's weight `tensor` but for quantisation.
pub(super) fn check(dir: &Path, copy: &View<'_>, name: &str, base: &GgufFile, tensor: &str) -> Result<()> {
    let Some(weight) = weight(&base.gguf, tensor) else {
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
    let distance = distance(copy, base, weight)?;
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

/// The weight that the update called `tensor` is one of.
fn weight<'g>(base: &'g Gguf, tensor: &str) -> Option<&'g TensorInfo> {
    let tied = (tensor == OUTPUT).then(|| base.opt_tensor(TOKEN_EMBD)).flatten();
    base.opt_tensor(tensor).or(tied)
}

/// ||base - copy|| / ||copy||, row by row.
fn distance(copy: &View<'_>, base: &GgufFile, weight: &TensorInfo) -> Result<f64> {
    let Some(format) = weight.ty.format() else {
        let problem = format!("has type {}, which loam cannot decode", weight.ty.name());
        return Err(base.gguf.tensor_error(&weight.name, problem).into());
    };
    let cols = weight.cols() as usize;
    let blocks = base.bytes(weight);
    let row_bytes = blocks.bytes().len() / (weight.rows() as usize).max(1);
    let (mut ours, mut theirs) = (vec![0.0; cols], vec![0.0; cols]);
    let (mut difference, mut norm) = (0.0, 0.0);
    let rows = blocks.bytes().chunks_exact(row_bytes.max(1));
    for (our, their) in rows.zip(copy.bytes.chunks_exact(copy.row_bytes(cols).max(1))) {
        format.decode_row(our, &mut ours);
        copy.format.decode_row(their, &mut theirs);
        for (our, their) in ours.iter().zip(&theirs) {
            difference += (f64::from(*our) - f64::from(*their)).powi(2);
            norm += f64::from(*their).powi(2);
        }
    }
    Ok((difference / norm).sqrt())
}
