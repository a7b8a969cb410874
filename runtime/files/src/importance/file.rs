//! The file of llama-imatrix: `general.type` = "imatrix", `imatrix.datasets`, `imatrix.chunk_count`,
//! `imatrix.chunk_size`, and for each weight the F32 tensors `<name>.in_sum2` {inputs, matrices} and `<name>.counts`
//! {1, matrices}.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::{Entry, Importance};
use crate::error::{Error, Result};
use crate::file::{AtomicFile, io_error, open_regular};
use crate::gguf::{GgmlType, GgufFile, Metadata, Strings, TensorDeclaration, TensorInfo, Writer};

const TYPE: &str = "general.type";
const DATASETS: &str = "imatrix.datasets";
const CHUNKS: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
/// Bytes that show whether a file is of the old format: two numbers and the longest name of a tensor.
const LEGACY_START: usize = 8 + 64;

impl Importance {
    /// Reads and checks a file: complete pairs of matching shape, values that are finite and at least 0.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Gguf`] if it cannot be read, [`Error::OldImportance`] if it is of llama-imatrix's old
    /// format, [`Error::Metadata`] if it is no importance matrix, [`Error::Tensor`] for a tensor that is unusable.
    pub fn read(path: &Path) -> Result<Importance> {
        refuse_legacy(path)?;
        let file = GgufFile::open(path)?;
        let gguf = &file.gguf;
        let kind = gguf.str(TYPE)?;
        if kind != "imatrix" {
            return Err(gguf.metadata_error(TYPE, format!("is \"{kind}\", must be \"imatrix\"")));
        }
        let datasets = gguf.strings(DATASETS)?.into_iter().map(str::to_owned).collect();
        let mut entries = BTreeMap::new();
        for tensor in gguf.tensors() {
            if let Some(name) = tensor.name.strip_suffix(SUMS) {
                let counts = gguf.tensor(&format!("{name}{COUNTS}"))?;
                entries.insert(name.to_owned(), entry(&file, tensor, counts)?);
            } else if let Some(name) = tensor.name.strip_suffix(COUNTS) {
                gguf.tensor(&format!("{name}{SUMS}"))?;
            } else {
                return Err(gguf.tensor_error(&tensor.name, "is neither a sum of squares nor a count"));
            }
        }
        Ok(Importance { datasets, chunks: gguf.u32(CHUNKS)?, chunk_size: gguf.u32(CHUNK_SIZE)?, entries })
    }

    /// Writes the file, atomically.
    ///
    /// # Errors
    /// [`Error::Io`], or a name that no tensor may have.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.write_to(AtomicFile::create(path)?)
    }

    /// As [`Importance::write`], to a file that was begun before.
    ///
    /// # Errors
    /// As [`Importance::write`].
    pub fn write_to(&self, file: AtomicFile) -> Result<()> {
        let path = file.path().to_owned();
        let mut metadata = Metadata::new();
        metadata.set(TYPE, "imatrix");
        metadata.set(DATASETS, self.datasets.iter().collect::<Strings>());
        metadata.set(CHUNKS, self.chunks);
        metadata.set(CHUNK_SIZE, self.chunk_size);
        let mut tensors = Vec::with_capacity(2 * self.entries.len());
        for (name, entry) in &self.entries {
            let matrices = entry.counts.len() as u64;
            tensors.push((declare(name, SUMS, entry.inputs() as u64, matrices), &entry.sums));
            tensors.push((declare(name, COUNTS, 1, matrices), &entry.counts));
        }
        let declarations: Vec<TensorDeclaration> = tensors.iter().map(|(declared, _)| declared.clone()).collect();
        let mut writer = Writer::new(file, &path, &metadata, &declarations)?;
        for (declared, values) in &tensors {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            writer.write(&declared.name, &bytes)?;
        }
        writer.finish()?.commit()
    }
}

/// Files of llama-imatrix before mid-2025 have a format of their own: a count of entries, then the length and the text
/// of a weight's name.
fn refuse_legacy(path: &Path) -> Result<()> {
    let mut start = Vec::with_capacity(LEGACY_START);
    open_regular(path)?.take(LEGACY_START as u64).read_to_end(&mut start).map_err(io_error("read", path))?;
    let number = |at: usize| start.get(at..at + 4).and_then(|le| le.try_into().ok()).map(i32::from_le_bytes);
    let name = number(4).and_then(|len| start.get(8..8 + usize::try_from(len).ok()?));
    let legacy = number(0).is_some_and(|entries| entries > 0) && name.is_some_and(|name| name.ends_with(b".weight"));
    if !legacy {
        return Ok(());
    }
    Err(Error::OldImportance { path: path.to_owned() })
}

fn declare(name: &str, suffix: &str, inputs: u64, matrices: u64) -> TensorDeclaration {
    TensorDeclaration { name: format!("{name}{suffix}"), shape: vec![inputs, matrices], ty: GgmlType::F32 }
}

fn entry(file: &GgufFile, sums: &TensorInfo, counts: &TensorInfo) -> Result<Entry> {
    let bad = |tensor: &TensorInfo, problem: String| file.gguf.tensor_error(&tensor.name, problem);
    if counts.cols() != 1 || counts.rows() != sums.rows() {
        let problem = format!("has shape {:?}, must be [1, {}] as {}", counts.shape, sums.rows(), sums.name);
        return Err(bad(counts, problem));
    }
    let [found_sums, found_counts] = [sums, counts].map(|tensor| {
        let values = values(file, tensor)?;
        match values.iter().find(|x| !(x.is_finite() && **x >= 0.0)) {
            Some(x) => Err(bad(tensor, format!("holds {x}; sums of squares and counts are finite and at least 0"))),
            None => Ok(values),
        }
    });
    let entry = Entry { sums: found_sums?, counts: found_counts? };
    // A tiny count may make a mean of a finite sum infinite.
    match entry.means().iter().all(|mean| mean.is_finite()) {
        true => Ok(entry),
        false => Err(bad(counts, "is so small that a mean is infinite".into())),
    }
}

fn values(file: &GgufFile, tensor: &TensorInfo) -> Result<Vec<f32>> {
    if tensor.ty != GgmlType::F32 {
        return Err(file.gguf.tensor_error(&tensor.name, format!("has type {}, must be F32", tensor.ty.name())));
    }
    let bytes = file.bytes(tensor)?;
    Ok(bytes.bytes().as_chunks::<4>().0.iter().map(|le| f32::from_le_bytes(*le)).collect())
}
