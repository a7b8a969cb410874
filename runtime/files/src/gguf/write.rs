//! The writer: declarations first (sizes follow from shapes and types), then tensor data streamed in order.
//! Nothing but the header is held in memory, and what comes out passes llama.cpp's reader and ours.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::read::{check_alignment, check_name, pad, tensor_bytes};
use super::value::{Array, Value};
use super::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, GgmlType, MAX_HEADER, MAX_KEY, MAX_KEYS, MAX_NAME, MAX_STRING, MAX_TENSORS,
    Metadata, TensorInfo, printable,
};
use crate::error::{Error, GgufProblem, Result};

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorDeclaration {
    /// Name, at most 63 bytes.
    pub name: String,
    /// Dimensions in `ne` order: `shape[0]` is the row length. 1 to 4, none zero, rows of whole blocks.
    pub shape: Vec<u64>,
    /// Type.
    pub ty: GgmlType,
}

/// Writes one GGUF v3 file into any [`Write`] (buffered by the caller; see [`crate::file::AtomicFile`]).
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    path: PathBuf,
    tensors: Vec<TensorInfo>,
    alignment: u32,
    /// Which tensor is written now.
    current: usize,
    /// How many of its bytes are.
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Checks and writes the header, the metadata and all declarations. `path` is only named in errors.
    /// The alignment is `general.alignment` if `metadata` has it, else 32.
    ///
    /// # Errors
    /// [`Error::Metadata`] and [`Error::Tensor`] for what a reader would refuse, [`Error::Io`] from `out`.
    pub fn new(out: W, path: &Path, metadata: &Metadata, tensors: &[TensorDeclaration]) -> Result<Writer<W>> {
        let Encoded { header, tensors, alignment } = encode(path, metadata, tensors)?;
        let mut writer = Writer { out, path: path.to_owned(), tensors, alignment, current: 0, written: 0 };
        writer.put(&header)?;
        Ok(writer)
    }

    /// Continues a file whose header and first `done` tensors, with their padding, are in `out` already, positioned
    /// after them.
    ///
    /// # Errors
    /// As [`Writer::new`].
    pub fn resume(
        out: W,
        path: &Path,
        metadata: &Metadata,
        tensors: &[TensorDeclaration],
        done: usize,
    ) -> Result<Writer<W>> {
        let Encoded { tensors, alignment, .. } = encode(path, metadata, tensors)?;
        Ok(Writer { out, path: path.to_owned(), tensors, alignment, current: done, written: 0 })
    }

    /// The output.
    pub fn output(&mut self) -> &mut W {
        &mut self.out
    }

    /// All tensors with their offsets in the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor whose bytes are expected now; `None` when all are written.
    pub fn next(&self) -> Option<&TensorInfo> {
        self.tensors.get(self.current)
    }

    /// Appends `chunk` to the data of tensor `name`, which must be the one whose turn it is. A tensor may come in any
    /// number of chunks; with its last byte it is padded and the turn passes on.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a tensor out of turn or more bytes than its size, [`Error::Io`] from the output.
    pub fn write(&mut self, name: &str, chunk: &[u8]) -> Result<()> {
        let Some(tensor) = self.next() else {
            return Err(self.error(name, "comes after the last declared tensor".into()));
        };
        if tensor.name != name {
            let problem = format!("comes while {} has {} of {} bytes", tensor.name, self.written, tensor.bytes);
            return Err(self.error(name, problem));
        }
        let (bytes, total) = (tensor.bytes, self.written + chunk.len() as u64);
        if total > bytes {
            return Err(self.error(name, format!("gets {total} bytes, its size is {bytes}")));
        }
        self.put(chunk)?;
        self.written = total;
        if total == bytes {
            self.finish_tensor(bytes)?;
        }
        Ok(())
    }

    /// Checks that every tensor is complete, flushes and returns the output.
    ///
    /// # Errors
    /// [`Error::Tensor`] for the first incomplete tensor, [`Error::Io`] from the output.
    pub fn finish(mut self) -> Result<W> {
        if let Some(tensor) = self.next() {
            let problem = format!("has {} of {} bytes", self.written, tensor.bytes);
            return Err(self.error(&tensor.name, problem));
        }
        self.out.flush().map_err(crate::file::io_error("write", &self.path))?;
        Ok(self.out)
    }

    fn finish_tensor(&mut self, bytes: u64) -> Result<()> {
        let padding = bytes.next_multiple_of(u64::from(self.alignment)) - bytes;
        // Less than the alignment, which is limited.
        self.put(&vec![0; padding as usize])?;
        self.current += 1;
        self.written = 0;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(crate::file::io_error("write", &self.path))
    }

    fn error(&self, name: &str, problem: String) -> Error {
        Error::Tensor { path: self.path.clone(), tensor: printable(name.as_bytes()), problem: problem.into() }
    }
}

/// Everything that [`Writer`] would write before the data, with its padding, and the tensors with their offsets.
///
/// # Errors
/// As [`Writer::new`], without output.
pub fn header(path: &Path, metadata: &Metadata, tensors: &[TensorDeclaration]) -> Result<(Vec<u8>, Vec<TensorInfo>)> {
    encode(path, metadata, tensors).map(|encoded| (encoded.header, encoded.tensors))
}

/// Size in bytes of the file that [`Writer`] would write, for plans and free-space checks.
///
/// # Errors
/// As [`Writer::new`], without output.
pub fn file_size(path: &Path, metadata: &Metadata, tensors: &[TensorDeclaration]) -> Result<u64> {
    let Encoded { header, tensors, alignment } = encode(path, metadata, tensors)?;
    let end = tensors.last().map_or(header.len() as u64, |last| last.offset + last.bytes);
    Ok(end.next_multiple_of(u64::from(alignment)))
}

/// What comes before the data of a file.
struct Encoded {
    /// All bytes, with padding.
    header: Vec<u8>,
    /// Where each tensor is placed.
    tensors: Vec<TensorInfo>,
    /// What offsets are multiples of.
    alignment: u32,
}

fn encode(path: &Path, metadata: &Metadata, declarations: &[TensorDeclaration]) -> Result<Encoded> {
    check_counts(metadata, declarations)?;
    let bad_key = |key: &str, problem: GgufProblem| Error::Metadata {
        path: path.to_owned(),
        key: printable(key.as_bytes()),
        problem: problem.to_string(),
    };
    let alignment = match metadata.get(ALIGNMENT_KEY) {
        None => DEFAULT_ALIGNMENT,
        Some(value) => check_alignment(value).map_err(|problem| bad_key(ALIGNMENT_KEY, problem))?,
    };
    let mut tensors = place(path, declarations, alignment)?;
    let mut header = b"GGUF".to_vec();
    header.extend(3u32.to_le_bytes());
    header.extend((declarations.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        check_name(key.as_bytes(), MAX_KEY).map_err(|problem| bad_key(key, problem))?;
        put_string(&mut header, key.as_bytes());
        header.extend(value.type_id().to_le_bytes());
        put_value(&mut header, value).map_err(|problem| bad_key(key, problem))?;
    }
    tensors.iter().for_each(|tensor| put_declaration(&mut header, tensor));
    if header.len() as u64 > MAX_HEADER {
        let what = format!("size of the metadata of {}", path.display());
        return Err(Error::Limit { what, value: header.len() as u64, limit: MAX_HEADER });
    }
    header.resize(header.len().next_multiple_of(alignment as usize), 0);
    tensors.iter_mut().for_each(|tensor| tensor.offset += header.len() as u64);
    Ok(Encoded { header, tensors, alignment })
}

fn check_counts(metadata: &Metadata, declarations: &[TensorDeclaration]) -> Result<()> {
    let counts =
        [("number of metadata keys", metadata.len(), MAX_KEYS), ("number of tensors", declarations.len(), MAX_TENSORS)];
    for (what, value, limit) in counts {
        if value as u64 > limit {
            return Err(Error::Limit { what: what.into(), value: value as u64, limit });
        }
    }
    Ok(())
}

/// The tensors with offsets relative to the start of the data.
fn place(path: &Path, declarations: &[TensorDeclaration], alignment: u32) -> Result<Vec<TensorInfo>> {
    let mut names = std::collections::HashSet::new();
    let mut offset = 0u64;
    let mut tensors = Vec::with_capacity(declarations.len());
    for TensorDeclaration { name, shape, ty } in declarations {
        let bad = |problem: GgufProblem| Error::Tensor {
            path: path.to_owned(),
            tensor: printable(name.as_bytes()),
            problem: problem.to_string().into(),
        };
        check_name(name.as_bytes(), MAX_NAME).map_err(bad)?;
        if !names.insert(name) {
            return Err(bad(GgufProblem::Duplicate));
        }
        let bytes = tensor_bytes(shape, *ty).map_err(bad)?;
        tensors.push(TensorInfo { name: name.clone(), shape: shape.clone(), ty: *ty, shard: 0, offset, bytes });
        // The header comes on top: the sum must stay far from the end of u64.
        let end = offset.checked_add(bytes).and_then(|end| pad(end, alignment));
        offset = end.filter(|&end| end <= i64::MAX as u64).ok_or_else(|| bad(GgufProblem::SizeOverflow))?;
    }
    Ok(tensors)
}

fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    out.extend((string.len() as u64).to_le_bytes());
    out.extend(string);
}

fn put_declaration(out: &mut Vec<u8>, tensor: &TensorInfo) {
    put_string(out, tensor.name.as_bytes());
    out.extend((tensor.shape.len() as u32).to_le_bytes());
    tensor.shape.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
    out.extend(tensor.ty.id().to_le_bytes());
    out.extend(tensor.offset.to_le_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) -> std::result::Result<(), GgufProblem> {
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(v) => put_limited(out, v)?,
        Value::Array(v) => put_array(out, v)?,
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
    }
    Ok(())
}

fn put_limited(out: &mut Vec<u8>, string: &[u8]) -> std::result::Result<(), GgufProblem> {
    if string.len() as u64 > MAX_STRING {
        return Err(GgufProblem::OverLimit { value: string.len() as u64, limit: MAX_STRING });
    }
    put_string(out, string);
    Ok(())
}

fn put_array(out: &mut Vec<u8>, array: &Array) -> std::result::Result<(), GgufProblem> {
    out.extend(array.type_id().to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend(v),
        Array::I8(v) => put_numbers(out, v, |x| x.to_le_bytes()),
        Array::U16(v) => put_numbers(out, v, |x| x.to_le_bytes()),
        Array::I16(v) => put_numbers(out, v, |x| x.to_le_bytes()),
        Array::U32(v) => put_numbers(out, v, |x| x.to_le_bytes()),
        Array::I32(v) => put_numbers(out, v, |x| x.to_le_bytes()),
        Array::F32(v) => put_numbers(out, v, |x| x.to_le_bytes()),
        Array::Bool(v) => put_numbers(out, v, |x| [u8::from(x)]),
        Array::String(v) => v.iter().try_for_each(|string| put_limited(out, string))?,
        Array::U64(v) => put_numbers(out, v, |x| x.to_le_bytes()),
        Array::I64(v) => put_numbers(out, v, |x| x.to_le_bytes()),
        Array::F64(v) => put_numbers(out, v, |x| x.to_le_bytes()),
    }
    Ok(())
}

fn put_numbers<T: Copy, const N: usize>(out: &mut Vec<u8>, numbers: &[T], to: fn(T) -> [u8; N]) {
    numbers.iter().for_each(|&number| out.extend(to(number)));
}
