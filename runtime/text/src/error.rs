//! What can go wrong with tokenizers and chat templates.

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong between text and tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key of the model file is missing or of another type than it has to be.
    #[error(transparent)]
    File(#[from] loam_files::Error),
    /// The tokenizer's data cannot be used, or a text cannot be encoded.
    #[error("tokenizer: {0}")]
    Tokenizer(TokenizerProblem),
    /// The chat template does not parse, fails, or costs too much.
    #[error("chat template: {0}")]
    Template(String),
    /// A size is over a limit of the tokenizer.
    #[error("{what} is {value}, the limit is {limit}")]
    Limit {
        /// What was counted.
        what: String,
        /// How much was asked.
        value: u64,
        /// How much there can be.
        limit: u64,
    },
}

/// What is wrong with a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerProblem {
    /// `tokenizer.ggml.pre` names a way to cut texts that is not known.
    #[error("unknown pre-tokenizer {found:?} in tokenizer.ggml.pre; known: {known}")]
    UnknownPreTokenizer {
        /// The name, cut short.
        found: String,
        /// The known ones, with commas.
        known: String,
    },
    /// `tokenizer.ggml.pre` is not there.
    #[error("tokenizer.ggml.pre is missing: the file does not say how texts are cut")]
    NoPreTokenizer,
    /// `tokenizer.ggml.model` names a kind that is not known.
    #[error("tokenizer.ggml.model {found:?} is not supported; {known} are")]
    UnknownModel {
        /// The name, cut short.
        found: String,
        /// The known ones, with commas.
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
