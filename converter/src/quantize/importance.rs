//! What an importance matrix says about the tensors of a conversion.

use std::path::{Path, PathBuf};

use loam_files::gguf::{Metadata, printable};
use loam_files::importance::Importance;
use loam_shaders::Format;

use super::recipe::Choice;
use crate::{Error, Result};

/// An importance matrix and the file that it came from.
#[derive(Debug)]
pub struct Calibration {
    importance: Importance,
    path: PathBuf,
    digest: String,
}

impl Calibration {
    /// Reads a file of llama-imatrix or of `loam imatrix`.
    ///
    /// # Errors
    /// As [`Importance::read`].
    pub fn open(path: &Path) -> Result<Calibration> {
        let digest = loam_files::digest::sha256_file(path)?;
        Ok(Calibration { importance: Importance::read(path)?, path: path.into(), digest })
    }

    /// SHA-256 of the file, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The importance of the inputs of `name`, [matrices, inputs]; `None` if the file has nothing on it. The embedding
    /// is no product: what a file may say about it is ignored, as llama-quantize does.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the entry has another shape than the tensor.
    pub fn weights(&self, name: &str, shape: &[u64]) -> Result<Option<Vec<f32>>> {
        let Some(entry) = self.importance.entries.get(name) else { return Ok(None) };
        let (inputs, matrices) = (shape[0], shape.iter().skip(2).product::<u64>());
        if (entry.inputs() as u64, entry.counts.len() as u64) == (inputs, matrices) {
            return Ok(Some(entry.means()));
        }
        if name == "token_embd.weight" {
            return Ok(None);
        }
        let found = format!("{} inputs of {} matrices", entry.inputs(), entry.counts.len());
        let problem = format!("the importance matrix is of {found}, the tensor has {inputs} of {matrices}");
        Err(Error::tensor(&self.path, name, problem))
    }

    /// The keys that llama-quantize adds.
    pub fn describe(&self, metadata: &mut Metadata) {
        metadata.set("quantize.imatrix.file", self.path.to_string_lossy().into_owned());
        if let Some(dataset) = self.importance.datasets.first() {
            metadata.set("quantize.imatrix.dataset", dataset.as_str());
        }
        metadata.set("quantize.imatrix.entries_count", self.importance.entries.len() as u32);
        if self.importance.chunks > 0 {
            metadata.set("quantize.imatrix.chunks_count", self.importance.chunks);
        }
    }

    /// What the user should know: tensors that are encoded without importance although their format could use it, and
    /// experts that no token was sent to.
    ///
    /// # Errors
    /// As [`Calibration::weights`].
    pub fn notes(&self, tensors: &[(&str, &[u64])], choices: &[Choice]) -> Result<Vec<String>> {
        let (mut missing, mut unseen) = (Vec::new(), Vec::new());
        for ((name, shape), choice) in tensors.iter().zip(choices) {
            let uses = choice.format.has_weighted_encoder();
            match self.importance.entries.get(*name) {
                None if uses => missing.push(*name),
                Some(entry) if uses && entry.counts.contains(&0.0) => unseen.push(*name),
                _ => {}
            }
            if shape.len() > 1 && choice.format != Format::F32 {
                self.weights(name, shape)?;
            }
        }
        let notes = [
            (missing, "the importance matrix has nothing on"),
            (unseen, "in the calibration text no token was sent to some experts, whose inputs count alike, of"),
        ];
        let shown = |(names, what): (Vec<&str>, &str)| (!names.is_empty()).then(|| format!("{what} {}", some(&names)));
        Ok(notes.into_iter().filter_map(shown).collect())
    }
}

/// The first few of some names, and how many more there are.
fn some(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(4).map(|name| printable(name.as_bytes())).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
