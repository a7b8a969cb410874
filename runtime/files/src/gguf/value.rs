//! Metadata values, typed as in the file: nothing is widened, narrowed or re-encoded.

/// A metadata value. Strings are bytes: llama.cpp does not check them, and files must survive a copy unchanged.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are the value types of the GGUF specification")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(Vec<u8>),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type, stored as compactly as in the file. GGUF's nested arrays are not supported.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are the value types of the GGUF specification")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Strings),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Number of the array type among the value types.
pub const ARRAY_TYPE: u32 = 9;

impl Value {
    /// Number of the value's type in files.
    pub fn type_id(&self) -> u32 {
        match self {
            Value::U8(_) => 0,
            Value::I8(_) => 1,
            Value::U16(_) => 2,
            Value::I16(_) => 3,
            Value::U32(_) => 4,
            Value::I32(_) => 5,
            Value::F32(_) => 6,
            Value::Bool(_) => 7,
            Value::String(_) => 8,
            Value::Array(_) => ARRAY_TYPE,
            Value::U64(_) => 10,
            Value::I64(_) => 11,
            Value::F64(_) => 12,
        }
    }

    /// Name of the type: "u32", "string", "array of i32".
    pub fn type_name(&self) -> String {
        match self {
            Value::Array(array) => format!("array of {}", type_name(array.type_id())),
            value => type_name(value.type_id()).to_owned(),
        }
    }
}

impl Array {
    /// Number of the elements' type in files.
    pub fn type_id(&self) -> u32 {
        match self {
            Array::U8(_) => 0,
            Array::I8(_) => 1,
            Array::U16(_) => 2,
            Array::I16(_) => 3,
            Array::U32(_) => 4,
            Array::I32(_) => 5,
            Array::F32(_) => 6,
            Array::Bool(_) => 7,
            Array::String(_) => 8,
            Array::U64(_) => 10,
            Array::I64(_) => 11,
            Array::F64(_) => 12,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::String(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F64(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Name of a value type by its number in files.
pub fn type_name(id: u32) -> &'static str {
    const NAMES: [&str; 13] =
        ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"];
    NAMES.get(id as usize).copied().unwrap_or("unknown")
}

/// A list of byte strings in two allocations: token lists have hundreds of thousands of entries. Tokens need not be
/// UTF-8 (byte-fallback vocabularies cut characters), so entries are bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Strings {
    /// An empty list with room for `count` strings of `bytes` bytes in all.
    pub fn with_capacity(count: usize, bytes: usize) -> Strings {
        Strings { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    /// Appends a string.
    pub fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.ends.push(self.bytes.len());
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String number `index`.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[start..end])
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Strings {
        let mut list = Strings::default();
        strings.into_iter().for_each(|s| list.push(s.as_ref()));
        list
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.as_bytes().to_vec())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text.into_bytes())
    }
}

impl From<Strings> for Value {
    fn from(strings: Strings) -> Value {
        Value::Array(Array::String(strings))
    }
}

/// `From` for a number type and for vectors of it.
macro_rules! from_number {
    ($($number:ty => $variant:ident),*) => {$(
        impl From<$number> for Value {
            fn from(number: $number) -> Value {
                Value::$variant(number)
            }
        }
        impl From<Vec<$number>> for Value {
            fn from(numbers: Vec<$number>) -> Value {
                Value::Array(Array::$variant(numbers))
            }
        }
    )*};
}
from_number!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool,
    u64 => U64, i64 => I64, f64 => F64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_keep_bytes_and_empty_entries() {
        let list: Strings = [&b"a"[..], b"", b"\xff\xfe", b"tail"].into_iter().collect();
        assert_eq!(list.len(), 4);
        assert_eq!(list.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"\xff\xfe", b"tail"]);
        assert_eq!(list.get(4), None);
    }

    #[test]
    fn names_match_ids() {
        assert_eq!(Value::from("x").type_name(), "string");
        assert_eq!(Value::from(vec![1i32]).type_name(), "array of i32");
        assert_eq!(Value::from(1.0f64).type_name(), "f64");
        assert_eq!(type_name(13), "unknown");
    }
}
