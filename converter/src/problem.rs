//! What can be wrong with a source, where what to do about it depends on it. Each text continues the name of the file.

use std::path::PathBuf;

/// Why a folder or file cannot be used as what it was given for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceProblem {
    /// Neither a model folder nor a GGUF file.
    #[error("is no folder and no GGUF file")]
    NoModel,
    /// A folder without the file that says what it holds.
    #[error("has no {file}{}", instead(among))]
    NoConfig {
        /// config.json or adapter_config.json.
        file: &'static str,
        /// Folders in it that have one.
        among: Vec<PathBuf>,
    },
    /// A model folder without weights that can be read.
    #[error("has neither model.safetensors nor model.safetensors.index.json")]
    NoWeights,
    /// A model folder without a tokenizer.
    #[error("has neither tokenizer.json nor tokenizer.model")]
    NoTokenizer,
    /// A file that the index of a checkpoint names is not there.
    #[error("is not there, but {index} names it")]
    MissingShard {
        /// Name of the index.
        index: String,
    },
    /// The folder that a hub's cache keeps for a repository, with several versions of it.
    #[error("is the cache of a repository, with {} versions of it{}", snapshots.len(), instead(snapshots))]
    Cache {
        /// The folders of the versions.
        snapshots: Vec<PathBuf>,
    },
    /// The text file that git keeps in place of a large one.
    #[error("is a Git LFS pointer, not the file that it stands for")]
    LfsPointer,
    /// A symbolic link to nothing.
    #[error("is a symbolic link that leads nowhere")]
    DanglingLink,
    /// A PEFT adapter in place of a model.
    #[error("is a PEFT adapter, not a model")]
    PeftAdapter,
    /// A GGUF adapter in place of a model.
    #[error("is an adapter, not a model")]
    GgufAdapter,
    /// An adapter that another program than PEFT writes.
    #[error("is an adapter of {program}, not of PEFT")]
    ForeignAdapter {
        /// The program.
        program: &'static str,
    },
    /// An importance matrix in place of a model.
    #[error("is an importance matrix, not a model")]
    ImportanceMatrix,
    /// A GGUF file without weights.
    #[error("has no tensors: a vocabulary alone is no model")]
    NoTensors,
    /// Text in another encoding.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A folder, a pipe or a device in place of a file.
    #[error("is no regular file")]
    NotRegular,
    /// A file over the limit of its kind.
    #[error("is over {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
}

/// The end of a sentence that names folders which have what was looked for; empty without any.
fn instead(folders: &[PathBuf]) -> String {
    /// So many are named.
    const SHOWN: usize = 3;
    let named = |folder: &PathBuf| folder.file_name().map(|name| name.to_string_lossy().into_owned());
    // The last ones: of a training they are the latest.
    let mut names: Vec<String> = folders.iter().rev().take(SHOWN).filter_map(named).collect();
    names.reverse();
    let more = if folders.len() > SHOWN { ".., " } else { "" };
    if names.is_empty() { String::new() } else { format!("; these folders in it have one: {more}{}", names.join(", ")) }
}

/// Why a tokenizer has no form in GGUF.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerProblem {
    /// It cuts texts in a way that has no name. The option `pre` gives one.
    #[error("no GGUF name is known for this pre_tokenizer ({found}); known: {known}")]
    UnknownPreTokenizer {
        /// What it is, cut short.
        found: String,
        /// The names that are known, with commas.
        known: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<String> for TokenizerProblem {
    fn from(problem: String) -> Self {
        TokenizerProblem::Other(problem)
    }
}

impl From<&str> for TokenizerProblem {
    fn from(problem: &str) -> Self {
        TokenizerProblem::Other(problem.to_owned())
    }
}

/// What is wrong with a tensor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorProblem {
    /// A weight is NaN or infinite. The option `allow_nonfinite` takes it as it is.
    #[error("element {at} is {value}")]
    NotFinite {
        /// Place of the weight in the tensor.
        at: usize,
        /// The weight.
        value: f32,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<String> for TensorProblem {
    fn from(problem: String) -> Self {
        TensorProblem::Other(problem)
    }
}

impl From<&str> for TensorProblem {
    fn from(problem: &str) -> Self {
        TensorProblem::Other(problem.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_would_do_are_named_and_not_all_of_them() {
        let told = |n: usize| {
            let among = (0..n).map(|i| PathBuf::from(format!("out/checkpoint-{i}"))).collect();
            SourceProblem::NoConfig { file: "config.json", among }.to_string()
        };
        assert_eq!(told(0), "has no config.json");
        assert_eq!(told(1), "has no config.json; these folders in it have one: checkpoint-0");
        assert!(told(9).ends_with("one: .., checkpoint-6, checkpoint-7, checkpoint-8"), "{}", told(9));
    }
}
