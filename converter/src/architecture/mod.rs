//! Architecture tables: which GGUF tensors a model has, what they are made of, and the model's metadata. One table per
//! family; [`describe`] is the same for all.

pub mod config;
mod describe;
mod experts;
pub mod family;
mod folder;
mod gemma2;
mod gemma3;
mod granite;
mod llama;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3moe;
pub mod rope;
mod rules;
mod smollm3;

use loam_files::gguf::Metadata;

pub use config::Config;
pub use describe::describe;
pub use family::Family;
pub use folder::Source;

/// All families.
pub static FAMILIES: [Family; 10] = [
    llama::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    qwen3moe::FAMILY,
    gemma2::FAMILY,
    gemma3::FAMILY,
    phi3::FAMILY,
    smollm3::FAMILY,
    olmo2::FAMILY,
    granite::FAMILY,
];

/// The family whose GGUF architecture is called `architecture`.
pub fn by_architecture(architecture: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.architecture == architecture)
}

/// Row of the Hugging Face matrix that becomes row `row` of the GGUF matrix; `head_dim` is even.
/// Row `2i + s` of a head is row `s * head_dim / 2 + i` of the same head (s in 0, 1).
pub fn permuted_row(row: u64, head_dim: u64) -> u64 {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + (within % 2) * (head_dim / 2) + within / 2
}

/// Where the values of a tensor come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Rows of tensors of the checkpoint.
    Checkpoint {
        /// Where the rows are, one piece after the other; all have the same number of rows. One piece, or one per
        /// expert.
        pieces: Vec<Piece>,
        /// The rows of each of so many heads are reordered ([`permuted_row`]).
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

/// Key that sorts tensors as llama-quantize does: tensors outside of blocks first, by name; then by block number and
/// name.
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

    #[test]
    fn permutation_interleaves_the_halves_of_each_head() {
        let rows: Vec<u64> = (0..8).map(|row| permuted_row(row, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
        let mut seen: Vec<u64> = (0..96).map(|row| permuted_row(row, 32)).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..96));
    }

    #[test]
    fn names_of_a_family_are_unique_and_go_both_ways() {
        for family in &FAMILIES {
            for linear in family.linears() {
                assert_eq!(family.linear_name(linear.hf), Some(linear.gguf));
                assert_eq!(family.module_name(linear.gguf), Some(linear.hf));
            }
            assert_eq!(family.linear_name("embed_tokens"), None);
            let same = |other: &&Family| other.classes.iter().any(|class| family.classes.contains(class));
            assert_eq!(FAMILIES.iter().filter(same).count(), 1, "{}", family.architecture);
        }
    }
}
