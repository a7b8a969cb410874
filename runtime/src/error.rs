//! The one error type of the runtime. Messages name the file, the field and what to do.

use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operating-system call on a file failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: "open", "read", "write", "rename".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file is no GGUF, is cut short, or lies about its own contents.
    #[error("{}: {problem} (at byte {offset}, reading {field})", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What was being read: "magic", "key 3", "tensor blk.0.attn_q.weight".
        field: String,
        /// Byte offset of the field in the file.
        offset: u64,
        /// Which rule of the format is broken.
        problem: GgufProblem,
    },
    /// A GGUF metadata key is missing, has another type than the specification says, or a value out of range.
    #[error("{}: metadata key {key}: {problem}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor is missing, or has a shape or type that the model cannot use.
    #[error("{}: tensor {tensor}: {problem}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// GGUF tensor name.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer's data cannot be used, or a text cannot be encoded.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template does not parse, fails, or costs too much.
    #[error("chat template: {0}")]
    Template(String),
    /// A line of a data file is wrong.
    #[error("{}{}: {problem}", path.display(), if *line == 0 { String::new() } else { format!(":{line}") })]
    Data {
        /// The file.
        path: PathBuf,
        /// Line number from 1; 0 when the whole file is meant.
        line: usize,
        /// What is wrong and what is expected.
        problem: String,
    },
    /// An adapter file is not usable.
    #[error("adapter {}: {problem}", path.display())]
    Adapter {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An adapter was trained on another base, tokenizer or template.
    #[error("adapter {} was made for another base: its {what} is {expected}, this base has {found}", path.display())]
    BaseMismatch {
        /// The adapter file.
        path: PathBuf,
        /// What differs: "base digest", "tokenizer digest", "architecture".
        what: &'static str,
        /// What the adapter was trained on.
        expected: String,
        /// What the base has.
        found: String,
    },
    /// A checkpoint of a training run is damaged, or cannot be used as asked.
    #[error("checkpoint {}: {problem}", path.display())]
    Checkpoint {
        /// The file, or the folder of checkpoints.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A checkpoint was written by a run with another base, other data, options or on another device.
    #[error("checkpoint {} is of another run: its {what} is {expected}, now it is {found}", path.display())]
    CheckpointMismatch {
        /// The file.
        path: PathBuf,
        /// What differs: "base", "data", "--lr".
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
        /// Where the run can go on from.
        checkpoint: Option<PathBuf>,
    },
    /// A request that cannot be carried out as asked: the message says which argument and why.
    #[error("{0}")]
    Argument(String),
    /// No device fits, or a device failed.
    #[error("device {device}: {problem}")]
    Device {
        /// Name of the device as `loam devices` shows it.
        device: String,
        /// What happened.
        problem: String,
    },
    /// The device is gone: unplugged, reset by the driver, or taken away. Nothing on it survives; open it anew.
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

/// Which rule of the GGUF format a file breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufProblem {
    /// The file ends inside the field.
    #[error("the file is truncated")]
    Truncated,
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file (bad magic)")]
    BadMagic,
    /// Neither version 2 nor 3, or written on a big-endian machine.
    #[error("unsupported GGUF version {0}")]
    UnsupportedVersion(String),
    /// A count or length promises more than the file can hold.
    #[error("claims {claimed}, but the rest of the file can hold at most {possible}: it is truncated or corrupt")]
    CountExceedsFile {
        /// What the file claims.
        claimed: u64,
        /// What the remaining bytes allow.
        possible: u64,
    },
    /// A value over a fixed limit of the reader.
    #[error("is {value}, the limit is {limit}")]
    OverLimit {
        /// The value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A key or tensor name is not UTF-8, empty or has a NUL.
    #[error("not a valid name")]
    BadName,
    /// A metadata value type that GGUF does not have.
    #[error("unsupported value type {0}")]
    BadValueType(u32),
    /// An array of arrays: no known file has one, and depth is what attacks are made of.
    #[error("nested arrays are not supported")]
    NestedArray,
    /// A bool that is neither 0 nor 1.
    #[error("bool is {0}, neither 0 nor 1")]
    BadBool(u8),
    /// The key or tensor name was there already.
    #[error("duplicate of an earlier entry")]
    Duplicate,
    /// `general.alignment` is no power of two from 1 to 65,536 stored as u32.
    #[error("bad alignment {0}")]
    BadAlignment(String),
    /// Zero or more than four dimensions, or a dimension that is zero or over 2^63 - 1.
    #[error("bad shape {0}")]
    BadShape(String),
    /// The product of the dimensions does not fit.
    #[error("size overflows")]
    SizeOverflow,
    /// The row length is no multiple of the type's block.
    #[error("row length {row} is no multiple of the block of {block} weights")]
    BadRow {
        /// Row length in weights.
        row: u64,
        /// Block length in weights.
        block: u64,
    },
    /// A removed or unknown ggml type.
    #[error("unsupported tensor type {0}")]
    UnsupportedType(u32),
    /// Tensor data is unaligned, overlaps, is out of order or leaves a hole.
    #[error("bad data offset {found}, expected {expected}")]
    BadOffset {
        /// The offset in the file.
        found: u64,
        /// Where the data must start.
        expected: u64,
    },
    /// The file goes on behind the padded data of the last tensor.
    #[error("{extra} bytes behind the end of the contents")]
    TrailingBytes {
        /// How many.
        extra: u64,
    },
}
