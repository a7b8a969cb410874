//! Independent verification: the written file is read by gguf-rs, which shares no code with the writer, and compared
//! with what was meant to be written, before it is put in place.
//!
//! gguf-rs 0.1.8 has known defects: its sizes of types whose block is not 256 weights are wrong, and it panics on ids
//! that it does not know. So its sizes are not used, only types that it knows are written, and a panic of its is an
//! error.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use gguf_rs::{ByteOrder, GGUFContainer, GGUFModel};
use loam_files::gguf::{ALIGNMENT_KEY, Array, DEFAULT_ALIGNMENT, GgmlType, Metadata, TensorInfo, Value};

use crate::{Error, Result};

/// What the file must say.
#[derive(Debug)]
pub struct Expected<'e> {
    /// Keys and values.
    pub metadata: &'e Metadata,
    /// Tensors in order with their offsets from the start of the file.
    pub tensors: &'e [TensorInfo],
}

/// Reads `written` with the independent reader and compares. `out` is named in errors.
///
/// # Errors
/// [`Error::Verify`] with the first difference, [`Error::Io`] if the file cannot be read.
pub fn verify(written: &Path, out: &Path, expected: &Expected<'_>) -> Result<()> {
    let bad = |problem: String| Error::Verify { path: out.into(), problem };
    let mut file = File::open(written).map_err(Error::io("read back", out))?;
    let length = file.metadata().map_err(Error::io("read back", out))?.len();
    let mut magic = [0; 4];
    file.read_exact(&mut magic).map_err(Error::io("read back", out))?;
    if &magic != b"GGUF" {
        return Err(bad(format!("magic is {magic:?}")));
    }
    file.seek(SeekFrom::Start(4)).map_err(Error::io("read back", out))?;
    let decode = || GGUFContainer::new(ByteOrder::LE, Box::new(BufReader::new(file)), u64::MAX).decode();
    let model = catch_unwind(AssertUnwindSafe(decode))
        .map_err(|_| bad("the independent reader panicked".into()))?
        .map_err(|error| bad(format!("the independent reader refuses it: {error}")))?;
    compare_layout(&model, length, expected).and_then(|()| compare_tensors(&model, expected)).map_err(bad)?;
    compare_metadata(&model, expected.metadata).map_err(bad)
}

/// Bytes that the reader takes for an element of an array, whatever its type.
pub const PER_ELEMENT: u64 = 102;
/// Most elements of all arrays of a file. The largest vocabularies have 1.3 million.
pub const MAX_ELEMENTS: u64 = 4 << 20;
/// The reader may take so many times the bytes of the arrays ..
const FACTOR: u64 = 64;
/// .. and so much more.
const FLOOR: u64 = 64 << 20;
/// What GGUF demands: the reader takes another one for none.
const ALIGNMENTS: u32 = 8;

/// Refuses metadata of `source` that the reader of the output could not take, before any work: what it would find wrong
/// then is wrong with the source.
///
/// # Errors
/// [`Error::Field`]: text that is not UTF-8, an alignment that GGUF does not allow, too many elements of arrays.
pub fn check(source: &Path, metadata: &Metadata) -> Result<()> {
    let bad =
        |key: &str, problem: String| Err(Error::field(source, loam_files::gguf::printable(key.as_bytes()), problem));
    let utf8 = |text: &[u8]| std::str::from_utf8(text).is_ok();
    let (mut elements, mut bytes) = (0u64, 0u64);
    for (key, value) in metadata.iter() {
        match value {
            Value::String(text) if !utf8(text) => return bad(key, "is not UTF-8".into()),
            Value::U32(n) if key == ALIGNMENT_KEY && !n.is_multiple_of(ALIGNMENTS) => {
                return bad(key, format!("is {n}, must be a multiple of {ALIGNMENTS}"));
            }
            Value::Array(array) => {
                elements = elements.saturating_add(array.len() as u64);
                bytes = bytes.saturating_add(size(array));
                if elements > MAX_ELEMENTS || elements * PER_ELEMENT > FLOOR + bytes.saturating_mul(FACTOR) {
                    return bad(
                        key,
                        format!("with it the arrays of the file have {elements} elements, which are too many"),
                    );
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Bytes of an array in a file.
fn size(array: &Array) -> u64 {
    let width = match array {
        Array::U8(_) | Array::I8(_) | Array::Bool(_) => 1,
        Array::U16(_) | Array::I16(_) => 2,
        Array::U32(_) | Array::I32(_) | Array::F32(_) => 4,
        Array::U64(_) | Array::I64(_) | Array::F64(_) => 8,
        Array::String(texts) => return texts.iter().map(|text| 8 + text.len() as u64).sum(),
    };
    width * array.len() as u64
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> std::result::Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, must be {expected:?}")) }
}

fn compare_layout(model: &GGUFModel, length: u64, expected: &Expected<'_>) -> std::result::Result<(), String> {
    let alignment = match expected.metadata.get(ALIGNMENT_KEY) {
        Some(Value::U32(alignment)) => u64::from(*alignment),
        _ => u64::from(DEFAULT_ALIGNMENT),
    };
    same("version", model.get_version(), "v3".into())?;
    same("alignment", model.alignment(), alignment)?;
    same("number of tensors", model.num_tensor(), expected.tensors.len() as u64)?;
    same("number of keys", model.num_kv(), expected.metadata.len() as u64)?;
    let start = expected.tensors.first().map_or(length, |first| first.offset);
    same("start of the data", model.data_offset(), start)?;
    let end = expected.tensors.last().map_or(length, |last| (last.offset + last.bytes).next_multiple_of(alignment));
    same("length of the file", length, end)
}

/// Names, shapes, types and offsets; sizes from ggml's block table, so that the data neither overlap nor leave holes.
fn compare_tensors(model: &GGUFModel, expected: &Expected<'_>) -> std::result::Result<(), String> {
    let mut next = model.data_offset();
    for (found, expected) in model.tensors().iter().zip(expected.tensors) {
        let name = &expected.name;
        same("tensor name", &found.name, name)?;
        same(&format!("shape of {name}"), &found.shape, &expected.shape)?;
        same(&format!("type of {name}"), found.kind, expected.ty.id())?;
        let offset = model.data_offset() + found.offset;
        same(&format!("offset of {name}"), offset, expected.offset)?;
        same(&format!("offset of {name} behind the tensor before"), offset, next)?;
        let elements = found.shape.iter().product();
        let bytes =
            GgmlType::from_id(found.kind).and_then(|ty| ty.bytes(elements)).ok_or(format!("{name} has no size"))?;
        next = (offset + bytes).next_multiple_of(model.alignment());
    }
    Ok(())
}

/// Scalars by value, arrays by length: the JSON map of gguf-rs loses widths, and NaN.
fn compare_metadata(model: &GGUFModel, expected: &Metadata) -> std::result::Result<(), String> {
    for (key, value) in expected.iter() {
        let found = model.metadata().get(key).ok_or_else(|| format!("key {key} is missing"))?;
        let equal = match value {
            Value::U32(n) => found.as_u64() == Some(u64::from(*n)),
            Value::I32(n) => found.as_i64() == Some(i64::from(*n)),
            Value::F32(x) if !x.is_finite() => true,
            Value::F32(x) => found.as_f64().is_some_and(|y| y as f32 == *x),
            Value::Bool(b) => found.as_bool() == Some(*b),
            Value::String(text) => found.as_str().is_some_and(|s| s.as_bytes() == text),
            Value::Array(array) => found.as_array().is_some_and(|list| list.len() == array.len()),
            _ => true,
        };
        if !equal {
            return Err(format!("key {key} differs"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use loam_files::gguf::{Strings, TensorDeclaration, Writer};

    use super::*;

    fn sample() -> (Vec<u8>, Metadata, Vec<TensorInfo>) {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", "llama");
        metadata.set("llama.block_count", 1u32);
        metadata.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
        let declare = |name: &str, ty| TensorDeclaration { name: name.into(), shape: vec![512, 2], ty };
        let declarations = [declare("a", GgmlType::BF16), declare("b", GgmlType::Q4_0), declare("c", GgmlType::F32)];
        let mut writer = Writer::new(Vec::new(), Path::new("x.gguf"), &metadata, &declarations).unwrap();
        let tensors = writer.tensors().to_vec();
        for tensor in &tensors {
            writer.write(&tensor.name, &vec![0; tensor.bytes as usize]).unwrap();
        }
        (writer.finish().unwrap(), metadata, tensors)
    }

    fn read(bytes: &[u8], metadata: &Metadata, tensors: &[TensorInfo]) -> Result<()> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        verify(file.path(), Path::new("x.gguf"), &Expected { metadata, tensors })
    }

    #[test]
    fn accepts_what_the_writer_writes() {
        let (bytes, metadata, tensors) = sample();
        read(&bytes, &metadata, &tensors).unwrap();
    }

    #[test]
    fn faults_of_the_source_are_named_before_the_work() {
        let refused = |key: &str, value: Value| {
            let mut metadata = Metadata::new();
            metadata.set(key, value);
            let error = check(Path::new("in.gguf"), &metadata).err();
            error.is_some_and(|error| matches!(&error, Error::Field { field, .. } if field == key))
        };
        assert!(refused("general.name", Value::String(b"a\xff".to_vec())));
        // Tokens may be parts of characters.
        assert!(!refused("tokens", Value::from(Strings::from_iter([&b"a"[..], b"\xff"]))));
        for alignment in [1u32, 2, 4] {
            assert!(refused(ALIGNMENT_KEY, alignment.into()));
        }
        assert!(!refused(ALIGNMENT_KEY, 8u32.into()));
        assert!(refused("numbers", vec![0u32; MAX_ELEMENTS as usize + 1].into()));
        assert!(!refused("numbers", vec![0u32; MAX_ELEMENTS as usize].into()));
        // A byte each, for which the reader would take a hundred.
        assert!(refused("bytes", vec![0u8; 2_000_000].into()));
        assert!(!refused("bytes", vec![0u8; 1_000_000].into()));
    }

    #[test]
    fn sees_every_kind_of_difference() {
        let (bytes, metadata, tensors) = sample();
        let edits: [fn(&mut TensorInfo); 4] =
            [|t| t.name.push('x'), |t| t.shape[1] = 3, |t| t.ty = GgmlType::F16, |t| t.offset += 32];
        for edit in edits {
            let mut wrong = tensors.clone();
            edit(&mut wrong[1]);
            assert!(matches!(read(&bytes, &metadata, &wrong), Err(Error::Verify { .. })));
        }
        let mut wrong = metadata.clone();
        wrong.set("llama.block_count", 2u32);
        assert!(read(&bytes, &wrong, &tensors).unwrap_err().to_string().contains("llama.block_count"));
        for length in [3, 20, 60, bytes.len() / 2, bytes.len() - 1] {
            assert!(read(&bytes[..length], &metadata, &tensors).is_err(), "cut at {length}");
        }
        // An unknown type id makes gguf-rs panic or fail; either is an error here.
        for id in [40u32, 99] {
            let at = bytes.windows(9).position(|w| w == b"\x01\0\0\0\0\0\0\0b").unwrap();
            let mut wrong = bytes.clone();
            wrong[at + 9 + 4 + 16..][..4].copy_from_slice(&id.to_le_bytes());
            assert!(read(&wrong, &metadata, &tensors).is_err());
        }
    }
}
