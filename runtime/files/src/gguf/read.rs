//! The reader: bytes that anyone may have written in, checked declarations or a typed error out.
//!
//! Allocations are bounded by bytes that exist, not by claims: the metadata takes about its size in the file, and each
//! key and each tensor a small constant more (both counts are limited).

use std::path::Path;

use super::value::{ARRAY_TYPE, Array, Strings, Value};
use super::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, GgmlType, Gguf, MAX_ALIGNMENT, MAX_DIMS, MAX_HEADER, MAX_KEY, MAX_KEYS, MAX_NAME,
    MAX_STRING, MAX_TENSORS, Metadata, TensorInfo, printable,
};
use crate::error::{Error, GgufProblem, Result};

/// Smallest key-value pair: a key of one byte, its length, the value type, a value of one byte.
const MIN_KEY_BYTES: u64 = 8 + 1 + 4 + 1;
/// Smallest tensor declaration: a name of one byte, its length, dimension count, one dimension, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// A broken rule and where; which field it was is added by the caller, who knows.
struct Fault {
    offset: u64,
    problem: GgufProblem,
}

type Checked<T> = std::result::Result<T, Fault>;

/// Reads little-endian fields and never passes the end.
struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// Length of the whole file, of which `bytes` are the start.
    file: u64,
}

struct Header {
    version: u32,
    tensors: u64,
    keys: u64,
}

/// A tensor declaration whose data position is not checked yet.
struct Declared {
    info: TensorInfo,
    /// Offset relative to the start of the data, as the file claims.
    claimed: u64,
    /// Where the declaration stands.
    at: u64,
}

/// Reads the declarations from the start of a file of `file` bytes. Where `bytes` end too early, the error is
/// [`GgufProblem::Truncated`] at their end.
pub(super) fn parse(path: &Path, bytes: &[u8], file: u64) -> Result<Gguf> {
    let name = |field: String| {
        move |fault: Fault| Error::Gguf { path: path.to_owned(), field, offset: fault.offset, problem: fault.problem }
    };
    let mut cursor = Cursor { bytes, pos: 0, file };
    let header = cursor.header().map_err(name("header".into()))?;
    let (metadata, alignment) = read_metadata(&mut cursor, header.keys, &name)?;
    let declared = read_declarations(&mut cursor, header.tensors, &name)?;
    let by_name = sort_names(&declared).map_err(|(field, fault)| name(field)(fault))?;
    let (tensors, data_offset) = place(&cursor, declared, alignment).map_err(|(field, fault)| name(field)(fault))?;
    Ok(Gguf {
        path: path.to_owned(),
        version: header.version,
        alignment,
        metadata,
        tensors,
        by_name,
        data_offset,
        shards: 1,
    })
}

fn read_metadata<F: FnOnce(Fault) -> Error>(
    cursor: &mut Cursor<'_>,
    count: u64,
    name: &impl Fn(String) -> F,
) -> Result<(Metadata, u32)> {
    let mut entries = Vec::new();
    let mut offsets = Vec::new();
    let mut alignment = DEFAULT_ALIGNMENT;
    for i in 0..count {
        offsets.push(cursor.pos as u64);
        let key = match cursor.name(MAX_KEY) {
            Ok(key) => key.to_owned(),
            Err(fault) => return Err(name(format!("key {i}"))(fault)),
        };
        let at = cursor.pos as u64;
        let value = match cursor.value() {
            Ok(value) => value,
            Err(fault) => return Err(name(format!("value of {}", printable(key.as_bytes())))(fault)),
        };
        if key == ALIGNMENT_KEY {
            alignment = check_alignment(&value)
                .map_err(|problem| name(format!("value of {ALIGNMENT_KEY}"))(Fault { offset: at, problem }))?;
        }
        entries.push((key, value));
    }
    let mut order: Vec<u32> = (0..entries.len() as u32).collect();
    order.sort_by(|&a, &b| entries[a as usize].0.cmp(&entries[b as usize].0));
    match order.windows(2).find(|pair| entries[pair[0] as usize].0 == entries[pair[1] as usize].0) {
        None => Ok((Metadata { entries }, alignment)),
        Some(pair) => {
            let field = format!("key {}", printable(entries[pair[1] as usize].0.as_bytes()));
            Err(name(field)(Fault { offset: offsets[pair[1] as usize], problem: GgufProblem::Duplicate }))
        }
    }
}

/// The alignment that `general.alignment` gives, for reader and writer.
pub(super) fn check_alignment(value: &Value) -> std::result::Result<u32, GgufProblem> {
    match value {
        Value::U32(v) if v.is_power_of_two() && *v <= MAX_ALIGNMENT => Ok(*v),
        Value::U32(v) => Err(GgufProblem::BadAlignment(v.to_string())),
        other => Err(GgufProblem::BadAlignment(format!("of type {}", other.type_name()))),
    }
}

fn read_declarations<F: FnOnce(Fault) -> Error>(
    cursor: &mut Cursor<'_>,
    count: u64,
    name: &impl Fn(String) -> F,
) -> Result<Vec<Declared>> {
    let mut declared = Vec::new();
    for i in 0..count {
        let at = cursor.pos as u64;
        let tensor = match cursor.name(MAX_NAME) {
            Ok(tensor) => tensor.to_owned(),
            Err(fault) => return Err(name(format!("name of tensor {i}"))(fault)),
        };
        match cursor.declaration(tensor.clone(), at) {
            Ok(declaration) => declared.push(declaration),
            Err(fault) => return Err(name(field_of(&tensor))(fault)),
        }
    }
    Ok(declared)
}

/// Indices of the tensors sorted by name; an error for a name that comes twice.
fn sort_names(declared: &[Declared]) -> std::result::Result<Vec<u32>, (String, Fault)> {
    let tensor_name = |i: u32| declared[i as usize].info.name.as_str();
    let mut order: Vec<u32> = (0..declared.len() as u32).collect();
    order.sort_by(|&a, &b| tensor_name(a).cmp(tensor_name(b)));
    match order.windows(2).find(|pair| tensor_name(pair[0]) == tensor_name(pair[1])) {
        None => Ok(order),
        Some(pair) => {
            let second = &declared[pair[1] as usize];
            Err((field_of(&second.info.name), Fault { offset: second.at, problem: GgufProblem::Duplicate }))
        }
    }
}

/// Checks that the data are where llama.cpp expects them: one tensor after the other in the order of declaration, each
/// padded to the alignment, and nothing after.
fn place(
    cursor: &Cursor<'_>,
    declared: Vec<Declared>,
    alignment: u32,
) -> std::result::Result<(Vec<TensorInfo>, u64), (String, Fault)> {
    let file = cursor.file;
    let overflow = |offset| Fault { offset, problem: GgufProblem::SizeOverflow };
    let header_end = cursor.pos as u64;
    let data = pad(header_end, alignment).ok_or_else(|| ("padding".to_owned(), overflow(header_end)))?;
    let mut end = data;
    let mut tensors = Vec::with_capacity(declared.len());
    for Declared { mut info, claimed, at } in declared {
        let expected = end - data;
        if claimed != expected {
            let problem = GgufProblem::BadOffset { found: claimed, expected };
            return Err((field_of(&info.name), Fault { offset: at, problem }));
        }
        let data_end = end.checked_add(info.bytes).ok_or_else(|| (field_of(&info.name), overflow(at)))?;
        let padded = pad(data_end, alignment).ok_or_else(|| (field_of(&info.name), overflow(at)))?;
        if padded > file {
            let what = if data_end > file { "data of" } else { "padding after" };
            let field = format!("{what} {}", field_of(&info.name));
            return Err((field, Fault { offset: file, problem: GgufProblem::Truncated }));
        }
        info.offset = end;
        end = padded;
        tensors.push(info);
    }
    // Without tensors some writers pad the header and some do not.
    if file != end && !(tensors.is_empty() && file == header_end) {
        return Err(("end of file".into(), end_fault(file, end)));
    }
    Ok((tensors, data))
}

/// The file does not end where its contents end.
fn end_fault(file: u64, end: u64) -> Fault {
    if file < end {
        return Fault { offset: file, problem: GgufProblem::Truncated };
    }
    Fault { offset: end, problem: GgufProblem::TrailingBytes { extra: file - end } }
}

fn field_of(tensor: &str) -> String {
    format!("tensor {}", printable(tensor.as_bytes()))
}

/// The next multiple of `alignment` (a power of two).
pub(super) fn pad(offset: u64, alignment: u32) -> Option<u64> {
    offset.checked_next_multiple_of(u64::from(alignment))
}

/// Bytes of a tensor, for reader and writer. `shape[0]` must be whole blocks.
pub(super) fn tensor_bytes(shape: &[u64], ty: GgmlType) -> std::result::Result<u64, GgufProblem> {
    if shape.is_empty() || shape.len() > MAX_DIMS || shape.iter().any(|&d| d == 0 || d > i64::MAX as u64) {
        return Err(GgufProblem::BadShape(format!("{shape:?}")));
    }
    let elements = shape.iter().try_fold(1u64, |product, &d| product.checked_mul(d));
    // llama.cpp counts in i64.
    let elements = elements.filter(|&e| e <= i64::MAX as u64).ok_or(GgufProblem::SizeOverflow)?;
    if !shape[0].is_multiple_of(ty.block_len()) {
        return Err(GgufProblem::BadRow { row: shape[0], block: ty.block_len() });
    }
    ty.bytes(elements).filter(|&b| b <= i64::MAX as u64).ok_or(GgufProblem::SizeOverflow)
}

/// Checks a key or tensor name, for reader and writer.
pub(super) fn check_name(bytes: &[u8], limit: u64) -> std::result::Result<&str, GgufProblem> {
    if bytes.len() as u64 > limit {
        return Err(GgufProblem::OverLimit { value: bytes.len() as u64, limit });
    }
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.is_empty() && !name.contains('\0') => Ok(name),
        _ => Err(GgufProblem::BadName),
    }
}

impl<'a> Cursor<'a> {
    fn fault(&self, problem: GgufProblem) -> Fault {
        Fault { offset: self.pos as u64, problem }
    }

    /// The bytes end, and perhaps the file.
    fn at_end(&self) -> Fault {
        Fault { offset: self.bytes.len() as u64, problem: GgufProblem::Truncated }
    }

    fn remaining(&self) -> u64 {
        self.file - self.pos as u64
    }

    fn header(&mut self) -> Checked<Header> {
        let magic = self.fixed::<4>()?;
        if magic != *b"GGUF" {
            self.pos = 0;
            let big_endian = magic == *b"FUGG";
            let problem = match big_endian {
                true => big_endian_version(""),
                false if crate::file::is_lfs_pointer(self.bytes) => GgufProblem::LfsPointer,
                false => GgufProblem::BadMagic,
            };
            return Err(self.fault(problem));
        }
        let version = self.u32()?;
        if !matches!(version, 2 | 3) {
            self.pos -= 4;
            return Err(self.fault(match version.swap_bytes() {
                swapped @ 1..=0xffff => big_endian_version(&format!("{swapped} ")),
                _ => GgufProblem::UnsupportedVersion(version.to_string()),
            }));
        }
        let tensors = self.count(MIN_TENSOR_BYTES, MAX_TENSORS)?;
        let keys = self.count(MIN_KEY_BYTES, MAX_KEYS)?;
        Ok(Header { version, tensors, keys })
    }

    /// A count of entries of at least `size` bytes each.
    fn count(&mut self, size: u64, limit: u64) -> Checked<u64> {
        let at = self.pos as u64;
        let claimed = self.u64()?;
        let possible = self.remaining() / size;
        if claimed > possible {
            return Err(Fault { offset: at, problem: GgufProblem::CountExceedsFile { claimed, possible } });
        }
        if claimed > limit {
            return Err(Fault { offset: at, problem: GgufProblem::OverLimit { value: claimed, limit } });
        }
        Ok(claimed)
    }

    fn fixed<const N: usize>(&mut self) -> Checked<[u8; N]> {
        match self.bytes[self.pos..].first_chunk::<N>() {
            Some(bytes) => {
                self.pos += N;
                Ok(*bytes)
            }
            None => Err(self.at_end()),
        }
    }

    fn u32(&mut self) -> Checked<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Checked<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    /// `count` items of `size` bytes. `at` is where the count stands.
    fn items(&mut self, count: u64, size: u64, at: u64) -> Checked<&'a [u8]> {
        let possible = self.remaining() / size;
        if count > possible {
            return Err(Fault { offset: at, problem: GgufProblem::CountExceedsFile { claimed: count, possible } });
        }
        // No longer than the file.
        let end = self.pos as u64 + count * size;
        if end > MAX_HEADER {
            return Err(Fault { offset: at, problem: GgufProblem::OverLimit { value: end, limit: MAX_HEADER } });
        }
        let end = end as usize;
        let items = self.bytes.get(self.pos..end).ok_or_else(|| self.at_end())?;
        self.pos = end;
        Ok(items)
    }

    fn string(&mut self, limit: u64) -> Checked<&'a [u8]> {
        let at = self.pos as u64;
        let length = self.u64()?;
        if length > limit {
            return Err(Fault { offset: at, problem: GgufProblem::OverLimit { value: length, limit } });
        }
        self.items(length, 1, at)
    }

    fn name(&mut self, limit: u64) -> Checked<&'a str> {
        let at = self.pos as u64;
        let bytes = self.string(limit)?;
        check_name(bytes, limit).map_err(|problem| Fault { offset: at, problem })
    }

    fn value(&mut self) -> Checked<Value> {
        let at = self.pos as u64;
        Ok(match self.u32()? {
            0 => Value::U8(u8::from_le_bytes(self.fixed()?)),
            1 => Value::I8(i8::from_le_bytes(self.fixed()?)),
            2 => Value::U16(u16::from_le_bytes(self.fixed()?)),
            3 => Value::I16(i16::from_le_bytes(self.fixed()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.fixed()?)),
            6 => Value::F32(f32::from_le_bytes(self.fixed()?)),
            7 => {
                let offset = self.pos as u64;
                let [byte] = self.fixed()?;
                Value::Bool(bool_from(byte).map_err(|problem| Fault { offset, problem })?)
            }
            8 => Value::String(self.string(MAX_STRING)?.to_vec()),
            ARRAY_TYPE => Value::Array(self.array()?),
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.fixed()?)),
            12 => Value::F64(f64::from_le_bytes(self.fixed()?)),
            unknown => return Err(Fault { offset: at, problem: GgufProblem::BadValueType(unknown) }),
        })
    }

    fn array(&mut self) -> Checked<Array> {
        let at = self.pos as u64;
        let ty = self.u32()?;
        let size = match ty {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            ARRAY_TYPE => return Err(Fault { offset: at, problem: GgufProblem::NestedArray }),
            unknown => return Err(Fault { offset: at, problem: GgufProblem::BadValueType(unknown) }),
        };
        let count_at = self.pos as u64;
        let count = self.u64()?;
        if ty == 8 {
            return self.strings(count, count_at).map(Array::String);
        }
        let start = self.pos as u64;
        let items = self.items(count, size, count_at)?;
        Ok(match ty {
            0 => Array::U8(items.to_vec()),
            1 => Array::I8(numbers(items, i8::from_le_bytes)),
            2 => Array::U16(numbers(items, u16::from_le_bytes)),
            3 => Array::I16(numbers(items, i16::from_le_bytes)),
            4 => Array::U32(numbers(items, u32::from_le_bytes)),
            5 => Array::I32(numbers(items, i32::from_le_bytes)),
            6 => Array::F32(numbers(items, f32::from_le_bytes)),
            7 => Array::Bool(bools(items, start)?),
            10 => Array::U64(numbers(items, u64::from_le_bytes)),
            11 => Array::I64(numbers(items, i64::from_le_bytes)),
            _ => Array::F64(numbers(items, f64::from_le_bytes)),
        })
    }

    /// `count` strings, walked once for their total length, so that the list is allocated in one piece.
    fn strings(&mut self, count: u64, at: u64) -> Checked<Strings> {
        let possible = self.remaining() / 8;
        if count > possible {
            return Err(Fault { offset: at, problem: GgufProblem::CountExceedsFile { claimed: count, possible } });
        }
        let start = self.pos;
        let mut total = 0;
        for _ in 0..count {
            total += self.string(MAX_STRING)?.len();
        }
        self.pos = start;
        let mut strings = Strings::with_capacity(count as usize, total);
        for _ in 0..count {
            strings.push(self.string(MAX_STRING)?);
        }
        Ok(strings)
    }

    fn declaration(&mut self, name: String, at: u64) -> Checked<Declared> {
        let dims_at = self.pos as u64;
        let dims = self.u32()?;
        if dims == 0 || dims as usize > MAX_DIMS {
            let problem = GgufProblem::BadShape(format!("with {dims} dimensions"));
            return Err(Fault { offset: dims_at, problem });
        }
        let shape = (0..dims).map(|_| self.u64()).collect::<Checked<Vec<u64>>>()?;
        let type_at = self.pos as u64;
        let id = self.u32()?;
        let ty = GgmlType::from_id(id).ok_or(Fault { offset: type_at, problem: GgufProblem::UnsupportedType(id) })?;
        let bytes = tensor_bytes(&shape, ty).map_err(|problem| Fault { offset: dims_at, problem })?;
        let claimed = self.u64()?;
        Ok(Declared { info: TensorInfo { name, shape, ty, shard: 0, offset: 0, bytes }, claimed, at })
    }
}

fn big_endian_version(number: &str) -> GgufProblem {
    GgufProblem::UnsupportedVersion(format!("{number}(big-endian byte order)"))
}

fn bool_from(byte: u8) -> std::result::Result<bool, GgufProblem> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(GgufProblem::BadBool(other)),
    }
}

fn bools(items: &[u8], start: u64) -> Checked<Vec<bool>> {
    let one = |(i, &byte): (usize, &u8)| bool_from(byte).map_err(|problem| Fault { offset: start + i as u64, problem });
    let mut out = Vec::with_capacity(items.len());
    for item in items.iter().enumerate() {
        out.push(one(item)?);
    }
    Ok(out)
}

fn numbers<T, const N: usize>(items: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    items.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
}
