//! The one error type of the runtime. Messages name the file, the field and what to do.

use std::path::PathBuf;

use crate::data::Records;
use crate::option::OptionError;
use crate::problem::{CheckpointProblem, DataProblem, DeviceProblem};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written, or is not what it has to be.
    #[error(transparent)]
    File(#[from] loam_files::Error),
    /// A tokenizer or chat template cannot be used, or a text cannot be encoded or rendered.
    #[error(transparent)]
    Text(loam_text::Error),
    /// A line of a data file is wrong.
    #[error("{}{}: {problem}", path.display(), if *line == 0 { String::new() } else { format!(":{line}") })]
    Data {
        /// The file.
        path: PathBuf,
        /// Line number from 1; 0 when the whole file is meant.
        line: usize,
        /// What is wrong and what is expected.
        problem: DataProblem,
    },
    /// A data file has records that the objective cannot learn from.
    #[error("{}{}: has {found}; wanted are {wanted}", path.display(), if *line == 0 { String::new() } else { format!(":{line}") })]
    Records {
        /// The file.
        path: PathBuf,
        /// Line number from 1; 0 when the whole file is meant.
        line: usize,
        /// What it has.
        found: Records,
        /// What is learned from.
        wanted: Records,
    },
    /// A checkpoint of a training run is damaged, or cannot be used as asked.
    #[error("checkpoint {}: {problem}", path.display())]
    Checkpoint {
        /// The file, or the folder of checkpoints.
        path: PathBuf,
        /// What is wrong with it.
        problem: CheckpointProblem,
    },
    /// A checkpoint was written by a run with another base, other data, options or on another device.
    #[error("checkpoint {} is of another run: its {what} is {expected}, now it is {found}", path.display())]
    CheckpointMismatch {
        /// The file.
        path: PathBuf,
        /// What differs, by the name of its field: "base", "data", "lr".
        what: String,
        /// What the checkpoint's run had.
        expected: String,
        /// What this run has.
        found: String,
    },
    /// A training run was stopped from outside. What was done is in the checkpoint, if there is one.
    #[error("stopped after {step} of {steps} steps{}", if checkpoint.is_some() { "" } else { "; nothing was saved" })]
    Stopped {
        /// Steps done.
        step: u64,
        /// Steps that the run would have had.
        steps: u64,
        /// Where the run can continue from.
        checkpoint: Option<PathBuf>,
    },
    /// A request that cannot be carried out as asked: the message says which argument and why.
    #[error("{0}")]
    Argument(String),
    /// An option has a value that it cannot have, or that does not fit the others.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// No device fits, or a device failed.
    #[error("device {device}: {problem}")]
    Device {
        /// Name of the device as `loam devices` shows it.
        device: String,
        /// What happened.
        problem: DeviceProblem,
    },
    /// The device is gone: unplugged, reset by the driver, or taken away. Nothing on it survives; open it again.
    #[error("device {device} was lost: {reason}")]
    DeviceLost {
        /// Name of the device.
        device: String,
        /// The driver's reason.
        reason: String,
    },
    /// The device has not enough memory.
    #[error("device {device}: out of memory: {what} needs {bytes} bytes")]
    OutOfMemory {
        /// Name of the device.
        device: String,
        /// Which buffer.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// The cache of keys and values has not enough blocks left.
    #[error("the cache is full: {needed} more blocks of keys and values are needed, {free} are free")]
    CacheFull {
        /// Blocks that are needed.
        needed: usize,
        /// Blocks that no sequence has.
        free: usize,
    },
    /// A prompt that leaves no room for an answer.
    #[error("the prompt is too long: it has {tokens} tokens, the context is {context}")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// A base without a chat template cannot take messages.
    #[error("{} has no chat template", path.display())]
    NoTemplate {
        /// The base.
        path: PathBuf,
    },
    /// The chat template renders a conversation to no tokens.
    #[error("the chat template writes nothing for this conversation")]
    EmptyPrompt,
    /// Training cannot be made to fit into the memory that it may take.
    #[error("training does not fit into {budget} bytes: the smallest budget that would do is {needed} bytes")]
    OverBudget {
        /// What it may take.
        budget: u64,
        /// What the most sparing choice takes.
        needed: u64,
    },
    /// NaN or infinity where a number is needed: logits, a loss, an adapter.
    #[error("{0} is not finite")]
    NonFinite(String),
    /// A training ended with NaN or infinity: its learning rate was too high, or the data or the base is broken.
    #[error("{0} is not finite")]
    Diverged(&'static str),
    /// A training made the loss worse: what came out is not worth publishing.
    #[error("the adapter is worse than {than}: {what} {before:.4} -> {after:.4} nats per token")]
    Worse {
        /// What it is compared with: none, or what the training started from.
        than: &'static str,
        /// Which loss: the held-out one or, without held-out data, that of the last step's rows.
        what: &'static str,
        /// Loss before the training.
        before: f64,
        /// Loss of the adapter that the run would have ended with.
        after: f64,
    },
    /// A size is over a limit of the device or of loam.
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

/// Errors of files stay [`Error::File`], whoever read the file.
impl From<loam_text::Error> for Error {
    fn from(error: loam_text::Error) -> Error {
        match error {
            loam_text::Error::File(error) => Error::File(error),
            error => Error::Text(error),
        }
    }
}

impl Error {
    /// The message with those of its causes, on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text += &format!(": {cause}");
            next = cause.source();
        }
        text
    }
}
