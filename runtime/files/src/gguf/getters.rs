//! Typed access to metadata. A value of another type is an error, as in llama.cpp: nothing is converted silently.

use std::ops::RangeInclusive;

use super::{Array, Gguf, Strings, Value, printable};
use crate::error::Result;

/// A required getter and its optional counterpart for one value type.
macro_rules! getters {
    ($($get:ident, $opt:ident, $out:ty, $expected:literal, $pattern:pat => $value:expr;)*) => {$(
        #[doc = concat!("The ", $expected, " at `key`.\n\n# Errors\n[`Error::Metadata`](crate::Error::Metadata) if the key is \
            missing or has another type.")]
        pub fn $get(&self, key: &str) -> Result<$out> {
            self.$opt(key)?.ok_or_else(|| self.metadata_error(key, concat!("is missing, expected ", $expected)))
        }

        #[doc = concat!("The ", $expected, " at `key`, `None` if the key is absent.\n\n# Errors\n\
            [`Error::Metadata`](crate::Error::Metadata) if it has another type.")]
        pub fn $opt(&self, key: &str) -> Result<Option<$out>> {
            match self.metadata.get(key) {
                None => Ok(None),
                Some($pattern) => Ok(Some($value)),
                Some(other) => Err(self.metadata_error(key, format!("is {}, expected {}", other.type_name(), $expected))),
            }
        }
    )*};
}

impl Gguf {
    getters! {
        u16, opt_u16, u16, "u16", Value::U16(v) => *v;
        u32, opt_u32, u32, "u32", Value::U32(v) => *v;
        u64, opt_u64, u64, "u64", Value::U64(v) => *v;
        i32, opt_i32, i32, "i32", Value::I32(v) => *v;
        f32, opt_f32, f32, "f32", Value::F32(v) => *v;
        f64, opt_f64, f64, "f64", Value::F64(v) => *v;
        bool, opt_bool, bool, "bool", Value::Bool(v) => *v;
        byte_string, opt_byte_string, &[u8], "string", Value::String(v) => v.as_slice();
        byte_strings, opt_byte_strings, &Strings, "array of string", Value::Array(Array::String(v)) => v;
        u32s, opt_u32s, &[u32], "array of u32", Value::Array(Array::U32(v)) => v.as_slice();
        i32s, opt_i32s, &[i32], "array of i32", Value::Array(Array::I32(v)) => v.as_slice();
        f32s, opt_f32s, &[f32], "array of f32", Value::Array(Array::F32(v)) => v.as_slice();
    }

    /// The text at `key`.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata) if the key is missing, no string, or not UTF-8.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.text(key, self.byte_string(key)?, None)
    }

    /// The text at `key`, `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata) if it is no string or not UTF-8.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.opt_byte_string(key)?.map(|bytes| self.text(key, bytes, None)).transpose()
    }

    /// The texts at `key`. For lists that may hold other bytes there is [`Gguf::byte_strings`].
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata) if the key is missing, no array of strings, or an entry is not
    /// UTF-8.
    pub fn strings(&self, key: &str) -> Result<Vec<&str>> {
        self.texts(key, self.byte_strings(key)?)
    }

    /// The texts at `key`, `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata) if it is no array of strings or an entry is not UTF-8.
    pub fn opt_strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.opt_byte_strings(key)?.map(|list| self.texts(key, list)).transpose()
    }

    /// The u32 at `key`, which must lie in `range`.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata) if the key is missing, has another type, or is out of range.
    pub fn u32_in(&self, key: &str, range: RangeInclusive<u32>) -> Result<u32> {
        let value = self.u32(key)?;
        self.check_range(key, value, &range)
    }

    /// The u32 at `key`, which must lie in `range`; `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata) if it has another type or is out of range.
    pub fn opt_u32_in(&self, key: &str, range: RangeInclusive<u32>) -> Result<Option<u32>> {
        self.opt_u32(key)?.map(|value| self.check_range(key, value, &range)).transpose()
    }

    /// The f32 at `key`, which must lie in `range` (so NaN never passes).
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata) if the key is missing, has another type, or is out of range.
    pub fn f32_in(&self, key: &str, range: RangeInclusive<f32>) -> Result<f32> {
        let value = self.f32(key)?;
        self.check_range(key, value, &range)
    }

    /// The f32 at `key`, which must lie in `range` (so NaN never passes); `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata) if it has another type or is out of range.
    pub fn opt_f32_in(&self, key: &str, range: RangeInclusive<f32>) -> Result<Option<f32>> {
        self.opt_f32(key)?.map(|value| self.check_range(key, value, &range)).transpose()
    }

    fn check_range<T: PartialOrd + Copy + std::fmt::Display>(
        &self,
        key: &str,
        value: T,
        range: &RangeInclusive<T>,
    ) -> Result<T> {
        if range.contains(&value) {
            return Ok(value);
        }
        Err(self.metadata_error(key, format!("is {value}, must be {} to {}", range.start(), range.end())))
    }

    fn text<'a>(&self, key: &str, bytes: &'a [u8], entry: Option<usize>) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|_| {
            let which = entry.map(|i| format!("entry {i} ")).unwrap_or_default();
            let start = printable(&bytes[..bytes.len().min(40)]);
            self.metadata_error(key, format!("{which}is not UTF-8: \"{start}\""))
        })
    }

    fn texts<'a>(&self, key: &str, list: &'a Strings) -> Result<Vec<&'a str>> {
        list.iter().enumerate().map(|(i, bytes)| self.text(key, bytes, Some(i))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Metadata, Writer};
    use super::*;

    fn sample() -> Gguf {
        let mut metadata = Metadata::new();
        metadata.set("n", 7u32);
        metadata.set("eps", f32::NAN);
        metadata.set("name", "text");
        metadata.set("raw", Value::String(b"\xff\x1b".to_vec()));
        metadata.set("list", ["a", "b"].iter().collect::<Strings>());
        metadata.set("mixed", [&b"a"[..], b"\xff"].iter().collect::<Strings>());
        let path = Path::new("sample.gguf");
        let bytes = Writer::new(Vec::new(), path, &metadata, &[]).and_then(Writer::finish).expect("valid");
        Gguf::parse(path, &bytes).expect("own file")
    }

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.expect_err("must fail").to_string()
    }

    #[test]
    fn values_of_the_right_type() {
        let gguf = sample();
        assert_eq!(gguf.u32("n").ok(), Some(7));
        assert_eq!(gguf.opt_u32("absent").ok(), Some(None));
        assert_eq!(gguf.str("name").ok(), Some("text"));
        assert_eq!(gguf.strings("list").ok(), Some(vec!["a", "b"]));
        assert_eq!(gguf.byte_strings("mixed").map(|l| l.get(1)).ok(), Some(Some(&b"\xff"[..])));
        assert_eq!(gguf.u32_in("n", 1..=7).ok(), Some(7));
    }

    #[test]
    fn errors_name_file_key_and_expectation() {
        let gguf = sample();
        assert_eq!(message(gguf.u32("absent")), "sample.gguf: metadata key absent: is missing, expected u32");
        assert_eq!(message(gguf.opt_f32("n")), "sample.gguf: metadata key n: is u32, expected f32");
        assert_eq!(
            message(gguf.u32s("list")),
            "sample.gguf: metadata key list: is array of string, expected array of u32"
        );
        assert_eq!(message(gguf.u32_in("n", 1..=6)), "sample.gguf: metadata key n: is 7, must be 1 to 6");
        assert_eq!(message(gguf.f32_in("eps", 0.0..=1.0)), "sample.gguf: metadata key eps: is NaN, must be 0 to 1");
        assert_eq!(message(gguf.str("raw")), "sample.gguf: metadata key raw: is not UTF-8: \"\\xff\\u{1b}\"");
        assert_eq!(message(gguf.strings("mixed")), "sample.gguf: metadata key mixed: entry 1 is not UTF-8: \"\\xff\"");
    }
}
