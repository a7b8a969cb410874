//! All decisions of a conversion, before any work.

use std::path::PathBuf;

use loam_files::gguf::{GgmlType, Metadata};

use super::Shard;

/// A tensor of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// GGUF name.
    pub name: String,
    /// Dimensions in ggml's order.
    pub shape: Vec<u64>,
    /// What it becomes.
    pub ty: GgmlType,
    /// The asked type could not be used: the row length is no multiple of its block.
    pub fallback: bool,
    /// Size in bytes.
    pub bytes: u64,
}

/// All decisions of a conversion, before any work: `--plan`.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Metadata of the model.
    pub metadata: Metadata,
    /// Tensors in the order of the files.
    pub tensors: Vec<PlannedTensor>,
    /// The files: one, or the shards of a split.
    pub shards: Vec<Shard>,
    /// The most memory that the conversion takes, estimated from above: with the pages of the source that are mapped at
    /// one time.
    pub peak_host_bytes: u64,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The files that were written.
    pub files: Vec<PathBuf>,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of weights.
    pub parameters: u64,
    /// Size of the files in bytes.
    pub bytes: u64,
    /// How many tensors have each type, in order of first use.
    pub types: Vec<(GgmlType, usize)>,
    /// Tensors that could not be stored in the asked format, with what they are stored in.
    pub fallbacks: Vec<(String, GgmlType)>,
    /// How many tensors an earlier run, which was killed, had written.
    pub resumed: usize,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl Plan {
    /// Bytes of all tensors.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }

    /// Size of all files in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// What a conversion by this plan reports.
    pub fn summary(&self) -> Summary {
        let mut types: Vec<(GgmlType, usize)> = Vec::new();
        for tensor in &self.tensors {
            match types.iter_mut().find(|(ty, _)| *ty == tensor.ty) {
                Some((_, count)) => *count += 1,
                None => types.push((tensor.ty, 1)),
            }
        }
        let fallbacks = self.tensors.iter().filter(|t| t.fallback);
        Summary {
            files: self.shards.iter().map(|shard| shard.path.clone()).collect(),
            tensors: self.tensors.len(),
            parameters: self.tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum(),
            bytes: self.file_bytes(),
            types,
            fallbacks: fallbacks.map(|t| (t.name.clone(), t.ty)).collect(),
            resumed: 0,
            notes: self.notes.clone(),
        }
    }
}
