//! What can go wrong with files. Messages name the file, the field and the rule.

use std::path::PathBuf;

use crate::kind;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong while files are read and written.
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
    /// A GGUF file of another kind than was asked for: an adapter in place of a model, say.
    #[error("{} is {}, not {}", path.display(), kind::named(found), kind::named(wanted))]
    Kind {
        /// The file.
        path: PathBuf,
        /// Its `general.type`.
        found: String,
        /// The one that was asked for.
        wanted: &'static str,
    },
    /// A shard of a split model is not there.
    #[error("{} is the first shard of a model: {} is missing", path.display(), shard.display())]
    MissingShard {
        /// The first shard.
        path: PathBuf,
        /// The one that is not there.
        shard: PathBuf,
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
        problem: TensorProblem,
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
    /// The weights of a base are not those that an adapter was trained on, also not quantised otherwise.
    #[error("adapter {} was made for another model: tensor {tensor} of this base is not another quantisation of its own", path.display())]
    OtherWeights {
        /// The adapter file.
        path: PathBuf,
        /// The first tensor that differs.
        tensor: String,
    },
    /// Another program has written to a file while it was in use.
    #[error("{} was changed by another program while it was in use", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Another program has cut a file short while it was in use.
    #[error("{} was cut short by another program while it was in use", path.display())]
    Cut {
        /// The file.
        path: PathBuf,
    },
    /// NaN or infinity in a file that must hold numbers.
    #[error("{0} is not finite")]
    NonFinite(String),
    /// An importance matrix in llama-imatrix's format of before 2025.
    #[error("{} is an importance matrix in llama-imatrix's old format (.dat)", path.display())]
    OldImportance {
        /// The file.
        path: PathBuf,
    },
    /// The system does not start a single thread.
    #[error("cannot start a thread: {0}")]
    Threads(String),
    /// A size is over a limit of the format or of the caller.
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
    /// The text file that git keeps in place of a large one.
    #[error("a Git LFS pointer, not the file that it stands for")]
    LfsPointer,
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
    /// The file continues after the padded data of the last tensor.
    #[error("{extra} bytes behind the end of the contents")]
    TrailingBytes {
        /// How many.
        extra: u64,
    },
}

/// What is wrong with a tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorProblem {
    /// Its type is none that can be computed with.
    #[error("has type {ty}, which loam cannot compute with here")]
    Type {
        /// Name of the type.
        ty: &'static str,
    },
    /// The architecture has no such tensor.
    #[error("is not known to this architecture in loam")]
    Unknown,
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
