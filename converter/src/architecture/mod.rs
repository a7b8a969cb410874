//! Architecture tables: which GGUF tensors a model has, what they are made of, and the model's metadata.

pub mod llama;

use loam::gguf::Metadata;

use crate::Result;
use crate::source::Source;

/// Describes the model in `source` by the table of its architecture.
///
/// # Errors
/// A tensor is missing, unexpected, or of another shape than config.json says.
pub fn describe(source: &Source) -> Result<Model> {
    llama::describe(source)
}

/// Where the values of a tensor come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Rows of tensors of the checkpoint.
    Checkpoint {
        /// Where the rows are, one piece after the other; all have the same number of rows. One piece, or one per expert.
        pieces: Vec<Piece>,
        /// The rows of each of so many heads are reordered ([`llama::permuted_row`]).
        permuted_heads: Option<u64>,
        /// Added to every value: norms that are stored less one.
        plus: f32,
    },
    /// Values computed from the configuration.
    Values(Vec<f32>),
}

/// Consecutive rows of a tensor of the checkpoint, all its dimensions but the last taken as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Hugging Face name.
    pub name: String,
    /// First row.
    pub row: u64,
}

/// A tensor of the GGUF file to be.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelTensor {
    /// GGUF name.
    pub name: String,
    /// Dimensions in ggml's order: the row length first.
    pub shape: Vec<u64>,
    /// Where the values come from.
    pub origin: Origin,
}

impl ModelTensor {
    /// Row length.
    pub fn cols(&self) -> u64 {
        self.shape[0]
    }

    /// Number of rows. Every dimension is at most 2^24 (checked in the configuration), so nothing overflows.
    pub fn rows(&self) -> u64 {
        self.shape[1..].iter().product()
    }
}

/// A model as its architecture table describes it.
#[derive(Debug, Clone)]
pub struct Model {
    /// Value of `general.architecture`.
    pub architecture: &'static str,
    /// All tensors in the order of llama-quantize: those outside of blocks first, by name, then by block and name.
    pub tensors: Vec<ModelTensor>,
    /// `general.*` and `<architecture>.*` keys.
    pub metadata: Metadata,
    /// What the user should know: a head that was left out because it is tied, for instance.
    pub notes: Vec<String>,
}

/// Key that sorts tensors as llama-quantize does: tensors outside of blocks first, by name; then by block number and name.
pub fn order(name: &str) -> (Option<u64>, &str) {
    let block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    (block.and_then(|(number, _)| number.parse().ok()), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_sort_by_number_behind_the_rest() {
        let mut names = [
            "blk.10.attn_k.weight",
            "token_embd.weight",
            "blk.2.ffn_up.weight",
            "blk.2.attn_q.weight",
            "output_norm.weight",
        ];
        names.sort_by(|a, b| order(a).cmp(&order(b)));
        let sorted = [
            "output_norm.weight",
            "token_embd.weight",
            "blk.2.attn_q.weight",
            "blk.2.ffn_up.weight",
            "blk.10.attn_k.weight",
        ];
        assert_eq!(names, sorted);
    }
}
