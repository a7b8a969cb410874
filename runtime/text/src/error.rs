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
    Tokenizer(String),
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
