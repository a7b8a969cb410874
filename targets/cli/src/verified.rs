//! `loam inspect --verify`: every weight decoded once, a row at a time, to find those that are no numbers.

use std::collections::BTreeSet;

use loam::gguf::{Gguf, GgufFile, TensorInfo};
use loam_shaders::Format;
use rayon::prelude::*;
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::output::{Output, escape};

/// A tensor with values that are NaN or infinite.
struct Bad {
    name: String,
    values: u64,
    /// Row and column of the first.
    first: (usize, usize),
}

/// What was found in a file.
pub struct Verified {
    tensors: usize,
    bad: Vec<Bad>,
    /// Types that loam cannot decode.
    unknown: BTreeSet<&'static str>,
}

impl Verified {
    /// Decodes all tensors of `file`.
    ///
    /// # Errors
    /// If a tensor cannot be read, or no thread be started.
    pub fn new(file: &GgufFile) -> Result<Self> {
        loam_files::threads::pool(None)?.install(|| Self::of(file))
    }

    fn of(file: &GgufFile) -> Result<Self> {
        let mut found = Verified { tensors: 0, bad: Vec::new(), unknown: BTreeSet::new() };
        for tensor in file.gguf.tensors() {
            match tensor.ty.format() {
                None => {
                    found.unknown.insert(tensor.ty.name());
                }
                Some(_) => {
                    found.tensors += 1;
                    found.bad.extend(bad(file, tensor)?);
                }
            }
        }
        Ok(found)
    }

    /// Adds what was found to a result for people.
    pub fn print(&self, output: Output) -> Result {
        output.line(format!(
            "verified      {} tensors, {} with values that are not finite",
            self.tensors,
            self.bad.len()
        ))?;
        for bad in &self.bad {
            let (row, column) = bad.first;
            let name = escape(&bad.name);
            output.line(format!("  {name}: {} values, the first in row {row}, column {column}", bad.values))?;
        }
        if !self.unknown.is_empty() {
            let types: Vec<&str> = self.unknown.iter().copied().collect();
            output.line(format!("  not decoded: tensors of {}", types.join(", ")))?;
        }
        Ok(())
    }

    /// The same as JSON.
    pub fn json(&self) -> serde_json::Value {
        let bad = self.bad.iter().map(|bad| json!({"name": bad.name, "values": bad.values, "first": bad.first}));
        json!({"tensors": self.tensors, "nonfinite": bad.collect::<Vec<_>>(), "not_decoded": self.unknown})
    }

    /// Fails if a value is not finite.
    pub fn verdict(&self, gguf: &Gguf) -> Result {
        let Some(bad) = self.bad.first() else { return Ok(()) };
        let message = format!(
            "{}: {} of {} tensors hold values that are not finite, {} first",
            gguf.path().display(),
            self.bad.len(),
            self.tensors,
            bad.name
        );
        Err(Failure::new(message, "the file is damaged or was made from damaged weights: get or convert it again"))
    }
}

/// The values of `tensor` that are not finite, if there are some.
fn bad(file: &GgufFile, tensor: &TensorInfo) -> Result<Option<Bad>> {
    let cols = usize::try_from(tensor.cols()).ok().filter(|&cols| cols > 0);
    let row = |format: Format| Some((format, cols?, format.row_bytes(cols?).filter(|&bytes| bytes > 0)?));
    let Some((format, cols, row_bytes)) = tensor.ty.format().and_then(row) else { return Ok(None) };
    let bytes = file.bytes(tensor)?;
    let rows = bytes.bytes().par_chunks_exact(row_bytes).enumerate();
    let found = rows.map_init(
        || vec![0.0; cols],
        |values, (row, blocks)| {
            format.decode_row(blocks, values);
            let wrong = values.iter().filter(|value| !value.is_finite()).count() as u64;
            let first = values.iter().position(|value| !value.is_finite());
            (wrong, first.map(|column| (row, column)))
        },
    );
    let first = |a: Option<(usize, usize)>, b: Option<(usize, usize)>| a.into_iter().chain(b).min();
    let (values, at) = found.reduce(|| (0, None), |a, b| (a.0 + b.0, first(a.1, b.1)));
    Ok(at.map(|first| Bad { name: tensor.name.clone(), values, first }))
}
