//! The one error type of the converter. Messages name the file, the field or tensor, and what to do.

use std::path::{Path, PathBuf};

use loam_files::option::OptionError;

use crate::problem::{SourceProblem, TensorProblem, TokenizerProblem};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong while converting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operating-system call on a file failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: "open", "read", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A folder or file is not what it was given for, or lacks something.
    #[error("{} {problem}", path.display())]
    Source {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What it is, or what is missing.
        problem: SourceProblem,
    },
    /// The weights are there as Python pickles only, which run code when they are read.
    #[error(
        "{} is a Python pickle, which can run code when it is read; loam reads safetensors only: \
         save the model again with save_pretrained(.., safe_serialization=True)",
        path.display()
    )]
    Pickle {
        /// The pickle.
        path: PathBuf,
    },
    /// A file that must be JSON is not.
    #[error("{}: not valid JSON: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's message with line and column.
        problem: String,
    },
    /// A field of a JSON file is missing, has another type, or a value that cannot be used.
    #[error("{}: {field}: {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Name of the field, with dots for nesting.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No table for this architecture.
    #[error("{}: architecture {found} is not supported (supported: {supported})", path.display())]
    Architecture {
        /// config.json.
        path: PathBuf,
        /// What `architectures` says.
        found: String,
        /// What could be converted.
        supported: String,
    },
    /// The safetensors header breaks a rule of the format.
    #[error("{}: bad safetensors header: {problem}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Which rule.
        problem: String,
    },
    /// A tensor is missing, unexpected, of another shape or type, or holds values that cannot be used.
    #[error("{}: tensor {tensor}: {problem}", path.display())]
    Tensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
        /// What is wrong with it.
        problem: TensorProblem,
    },
    /// The tokenizer is of a kind, or splits text in a way, that has no GGUF name.
    #[error("{}: {problem}", path.display())]
    Tokenizer {
        /// tokenizer.json.
        path: PathBuf,
        /// What is not supported.
        problem: TokenizerProblem,
    },
    /// The independent reader does not see in the written file what was meant to be there. Nothing was put in place.
    #[error("{}: verification of the written file failed: {problem}", path.display())]
    Verify {
        /// The output file that was not put in place.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// A hub, or the way to it, did not give what was asked for.
    #[cfg(feature = "hub")]
    #[error("{url}: {problem}")]
    Hub {
        /// What was asked for, without its query.
        url: String,
        /// What is wrong.
        problem: crate::hub::HubProblem,
    },
    /// Another process pulls into the folder.
    #[cfg(feature = "hub")]
    #[error("another loam pull is at work in {}", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the user is where a pulled one would go.
    #[cfg(feature = "hub")]
    #[error("{} {why}: it is not replaced", path.display())]
    Kept {
        /// The file.
        path: PathBuf,
        /// Why it is the user's.
        why: crate::hub::Kept,
    },
    /// A request that cannot be carried out as asked.
    #[error("{0}")]
    Argument(String),
    /// An option has a value that it cannot have.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A file cannot be read or written, or is no sound GGUF.
    #[error(transparent)]
    File(#[from] loam_files::Error),
}

impl Error {
    /// `map_err` helper: an I/O error of `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// A [`Error::Field`].
    pub(crate) fn field(path: &Path, field: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Field { path: path.into(), field: field.into(), problem: bounded(problem.into()) }
    }

    /// A [`Error::Source`].
    pub(crate) fn source(path: &Path, problem: SourceProblem) -> Error {
        Error::Source { path: path.into(), problem }
    }

    /// A [`Error::Tensor`].
    pub(crate) fn tensor(path: &Path, tensor: impl Into<String>, problem: impl Into<TensorProblem>) -> Error {
        Error::Tensor { path: path.into(), tensor: tensor.into(), problem: problem.into() }
    }
}

/// A message with what strangers wrote in it, cut where it is no longer of use to anyone.
pub(crate) fn bounded(mut problem: String) -> String {
    const MOST: usize = 1000;
    if let Some((end, _)) = problem.char_indices().nth(MOST) {
        problem.truncate(end);
        problem += "...";
    }
    problem
}
