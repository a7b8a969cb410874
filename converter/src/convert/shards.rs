//! Which tensors go into which file. Without a limit, or if all fit, there is one file under the very name that was
//! asked for; else there are shards, named and marked as llama-gguf-split does it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use loam_files::gguf::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Metadata, SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS, TensorDeclaration, Value,
    file_size, shard_path,
};
use loam_files::option::OptionError;

use super::PlannedTensor;
use crate::Result;

/// A file of the output.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Where it goes.
    pub path: PathBuf,
    /// Its keys: all of the model's in the first shard, only those that say which shard it is in the others.
    pub metadata: Metadata,
    /// Its tensors, by their place in the plan.
    pub tensors: Range<usize>,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Distributes `tensors` in order over files of at most `limit` bytes; a tensor that is larger has a file of its own.
///
/// # Errors
/// What no GGUF file can hold, and a limit that would make more shards than names have room for.
pub(super) fn distribute(
    out: &Path,
    metadata: &Metadata,
    tensors: &[PlannedTensor],
    limit: Option<u64>,
) -> Result<Vec<Shard>> {
    let whole = file_size(out, metadata, &declarations(tensors))?;
    let Some(limit) = limit.filter(|limit| whole > *limit) else {
        return Ok(vec![Shard {
            path: out.into(),
            metadata: metadata.clone(),
            tensors: 0..tensors.len(),
            bytes: whole,
        }]);
    };
    let ranges = ranges(out, metadata, tensors, limit)?;
    let Ok(count) = u16::try_from(ranges.len()) else {
        let problem = format!("is {limit} and would make {} shards, 65535 are possible", ranges.len());
        return Err(OptionError::new("split_bytes", problem).into());
    };
    let prefix = match out.extension() {
        Some(extension) if extension == "gguf" => out.with_extension(""),
        _ => out.to_owned(),
    };
    let mut shards = Vec::with_capacity(ranges.len());
    for (no, tensors_of) in (0..count).zip(ranges) {
        let metadata = keys(metadata, no, count, tensors.len());
        let path = shard_path(&prefix, no, count);
        let bytes = file_size(&path, &metadata, &declarations(&tensors[tensors_of.clone()]))?;
        shards.push(Shard { path, metadata, tensors: tensors_of, bytes });
    }
    Ok(shards)
}

/// What a file declares of tensors.
pub(super) fn declarations(tensors: &[PlannedTensor]) -> Vec<TensorDeclaration> {
    let declare = |t: &PlannedTensor| TensorDeclaration { name: t.name.clone(), shape: t.shape.clone(), ty: t.ty };
    tensors.iter().map(declare).collect()
}

/// Metadata of shard `no` of `count`.
fn keys(model: &Metadata, no: u16, count: u16, tensors: usize) -> Metadata {
    let mut out = if no == 0 { model.clone() } else { Metadata::new() };
    if let Some(alignment) = model.get(ALIGNMENT_KEY) {
        out.set(ALIGNMENT_KEY, alignment.clone());
    }
    out.set(SPLIT_NO, no);
    out.set(SPLIT_COUNT, count);
    // The number of tensors is limited to 65536.
    out.set(SPLIT_TENSORS, tensors as i32);
    out
}

/// Fills one file after the other. Sizes count everything: header, declarations, padding.
fn ranges(out: &Path, metadata: &Metadata, tensors: &[PlannedTensor], limit: u64) -> Result<Vec<Range<usize>>> {
    let alignment = match metadata.get(ALIGNMENT_KEY) {
        Some(Value::U32(alignment)) => u64::from(*alignment),
        _ => u64::from(DEFAULT_ALIGNMENT),
    };
    // With the declarations the header is padded again, which takes less than the alignment more.
    let head = |no: u16| file_size(out, &keys(metadata, no, 2, 0), &[]).map(|bytes| bytes + alignment);
    let (first, later) = (head(0)?, head(1)?);
    let (mut ranges, mut start, mut size) = (Vec::new(), 0, first);
    for (at, tensor) in tensors.iter().enumerate() {
        // Lengths of the name and of the dimensions, type, offset.
        let declaration = 24 + tensor.name.len() as u64 + 8 * tensor.shape.len() as u64;
        let bytes = declaration + tensor.bytes.next_multiple_of(alignment);
        if at > start && size.saturating_add(bytes) > limit {
            ranges.push(start..at);
            (start, size) = (at, later);
        }
        size = size.saturating_add(bytes);
    }
    ranges.push(start..tensors.len());
    Ok(ranges)
}
