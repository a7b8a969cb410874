//! GGUF files, versions 2 and 3, little-endian.
//!
//! [`Gguf::parse`] trusts nothing: every count is checked against the bytes that are left before anything is
//! allocated, sizes are computed with checked arithmetic, and tensor data must be contiguous, without holes, in the
//! order of the declarations, and end exactly (with its padding) where the file ends: bytes after it are an error.
//! It is stricter than llama.cpp's reader, and [`Writer`] writes only what both accept.
//! Metadata text comes from strangers: print it through [`printable`].

mod file;
mod getters;
mod opened;
mod read;
pub mod sketch;
mod split;
mod types;
mod value;
mod write;

use std::path::{Path, PathBuf};

use crate::error::TensorProblem;
use crate::error::{Error, Result};

pub use file::GgufFile;
pub use split::{SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS, ShardName, place, set_mark, shard_path, shard_paths};
pub use types::GgmlType;
pub use value::{Array, Strings, Value};
pub use write::{TensorDeclaration, Writer, file_size, header};

/// Longest metadata key in bytes (the specification's own limit).
pub const MAX_KEY: u64 = 65_535;
/// Longest string value or array element in bytes.
pub const MAX_STRING: u64 = 64 << 20;
/// Longest tensor name in bytes: llama.cpp refuses 64.
pub const MAX_NAME: u64 = 63;
/// Most metadata keys.
pub const MAX_KEYS: u64 = 65_536;
/// Most tensors.
pub const MAX_TENSORS: u64 = 65_536;
/// Most bytes before the tensor data.
pub const MAX_HEADER: u64 = 256 << 20;
/// Largest `general.alignment`.
pub const MAX_ALIGNMENT: u32 = 65_536;
/// Alignment of files that do not say.
pub const DEFAULT_ALIGNMENT: u32 = 32;
/// Most dimensions of a tensor.
pub const MAX_DIMS: usize = 4;
/// Name of the token embedding, whose rows are looked up.
pub const TOKEN_EMBD: &str = "token_embd.weight";
/// Name of the head. An update of that name is one on the head also where the head is the embedding.
pub const OUTPUT: &str = "output.weight";
/// The key that holds the alignment.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// A tensor as the file declares it, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name: "blk.0.attn_q.weight".
    pub name: String,
    /// Dimensions in ggml's `ne` order: `shape[0]` is the row length (PyTorch's shape reversed). 1 to 4, none zero.
    pub shape: Vec<u64>,
    /// Type.
    pub ty: GgmlType,
    /// Which shard of a split model it is in, from 0; 0 in a file that is not split.
    pub shard: u16,
    /// Offset of the data from the start of its file.
    pub offset: u64,
    /// Length of the data without padding.
    pub bytes: u64,
}

impl TensorInfo {
    /// Row length in weights (input features): `ne[0]`.
    pub fn cols(&self) -> u64 {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Rows: the product of all dimensions but the first. Cannot overflow: the whole size was checked.
    pub fn rows(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }

    /// Number of weights.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// Metadata in the order of the file; keys are unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// No keys.
    pub fn new() -> Metadata {
        Metadata::default()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// Sets `key`: replaces the value where it stands, or appends.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.entries.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key, value)),
        }
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.entries.iter().position(|(k, _)| k == key)?;
        Some(self.entries.remove(at).1)
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The checked contents of a GGUF file without its tensor data.
#[derive(Debug, Clone)]
pub struct Gguf {
    path: PathBuf,
    version: u32,
    alignment: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<u32>,
    data_offset: u64,
    /// Files that the model is in.
    shards: usize,
}

impl Gguf {
    /// Reads the declarations of a whole file, given as `bytes`. `path` is only named in errors.
    ///
    /// # Errors
    /// [`Error::Gguf`] with the field, the byte offset and the broken rule.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Gguf> {
        read::parse(path, bytes, bytes.len() as u64)
    }

    /// The file, the first shard of a split model.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// GGUF version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of tensor data in bytes.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// Number of files that the model is in: 1 unless it is split.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Where tensor data starts in the (first) file.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// All tensors sorted by name.
    pub fn tensors_by_name(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.by_name.iter().map(|&i| &self.tensors[i as usize])
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is none.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.opt_tensor(name).ok_or_else(|| self.tensor_error(name, "is missing"))
    }

    /// The tensor `name`, if there is one.
    pub fn opt_tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = self.by_name.binary_search_by(|&i| self.tensors[i as usize].name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[at] as usize])
    }

    /// An error about a tensor of this file.
    pub fn tensor_error(&self, name: &str, problem: impl Into<TensorProblem>) -> Error {
        Error::Tensor { path: self.path.clone(), tensor: printable(name.as_bytes()), problem: problem.into() }
    }

    /// An error about a metadata key of this file.
    pub fn metadata_error(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::Metadata { path: self.path.clone(), key: printable(key.as_bytes()), problem: problem.into() }
    }
}

/// Text from a file, made safe for terminals and logs: control characters (escape sequences, line breaks), characters
/// that reorder or hide text, and bytes that are not UTF-8 appear as escapes.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_unsafe(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Whether a character can make a terminal or a reader see something else than is written: control characters, what has
/// no width, what changes the direction of writing, line separators, tags and fillers. Not what selects a form of the
/// character before it, as in emoji.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_escapes_what_a_terminal_would_obey() {
        assert_eq!(printable("naïve 文字 🙂".as_bytes()), "naïve 文字 🙂");
        assert_eq!(printable(b"\x1b[31mred\n\x07\x00"), "\\u{1b}[31mred\\n\\u{7}\\u{0}");
        assert_eq!(printable("a\u{202e}b\u{9b}".as_bytes()), "a\\u{202e}b\\u{9b}");
        for c in "\u{7f}\u{200b}\u{2066}\u{ad}\u{e0041}\u{e0100}\u{3164}".chars() {
            assert_eq!(printable(c.to_string().as_bytes()), c.escape_default().to_string());
        }
        assert_eq!(printable(b"ok\xff\xc3"), "ok\\xff\\xc3");
    }

    #[test]
    fn metadata_keeps_order_and_replaces_in_place() {
        let mut metadata = Metadata::new();
        metadata.set("a", 1u32);
        metadata.set("b", "text");
        metadata.set("a", 2u32);
        assert_eq!(metadata.iter().map(|(k, _)| k).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(metadata.get("a"), Some(&Value::U32(2)));
        assert_eq!(metadata.remove("a"), Some(Value::U32(2)));
        assert_eq!(metadata.len(), 1);
    }
}
