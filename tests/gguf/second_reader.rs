//! gguf-rs as an independent second reader: names, shapes, types, offsets and metadata must agree.
//! Its tensor sizes are wrong for several types and it panics on some, so sizes are not compared, type ids are scanned
//! first, and panics are caught (and fail the test).

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use gguf_rs::{ByteOrder, GGUFContainer, GGUFModel};
use loam::gguf::{Array, GgmlType, Gguf, Value};
use serde_json::Value as Json;

use crate::craft::random_file;

/// Whether gguf-rs can be asked about this file: it knows no NVFP4, and takes 32 for an alignment below 8.
pub fn knows(gguf: &Gguf) -> bool {
    gguf.alignment() >= 8 && gguf.tensors().iter().all(|t| t.ty != GgmlType::NVFP4)
}

fn decode(bytes: &[u8]) -> GGUFModel {
    // The magic is read by its caller.
    let rest = Cursor::new(bytes[4..].to_vec());
    let decode = || GGUFContainer::new(ByteOrder::LE, Box::new(rest), u64::MAX).decode();
    catch_unwind(AssertUnwindSafe(decode)).expect("no panic").expect("gguf-rs accepts what loam accepts")
}

/// Panics where gguf-rs reads something else than loam did.
pub fn agree(gguf: &Gguf, bytes: &[u8]) {
    let other = decode(bytes);
    assert_eq!(other.get_version(), format!("v{}", gguf.version()));
    assert_eq!((other.alignment(), other.data_offset()), (u64::from(gguf.alignment()), gguf.data_offset()));
    assert_eq!(other.tensors().len(), gguf.tensors().len());
    for (theirs, ours) in other.tensors().iter().zip(gguf.tensors()) {
        assert_eq!((&theirs.name, &theirs.shape, theirs.kind), (&ours.name, &ours.shape, ours.ty.id()));
        assert_eq!(theirs.offset + other.data_offset(), ours.offset, "{}", ours.name);
    }
    assert_eq!(other.metadata().len(), gguf.metadata().len());
    for (key, value) in gguf.metadata().iter() {
        assert_eq!(other.metadata().get(key), Some(&json(value)), "{key}");
    }
}

/// A value as gguf-rs gives it: JSON numbers, text with replacement characters.
fn json(value: &Value) -> Json {
    match value {
        Value::U8(v) => Json::from(*v),
        Value::I8(v) => Json::from(*v),
        Value::U16(v) => Json::from(*v),
        Value::I16(v) => Json::from(*v),
        Value::U32(v) => Json::from(*v),
        Value::I32(v) => Json::from(*v),
        Value::F32(v) => Json::from(*v),
        Value::Bool(v) => Json::from(*v),
        Value::String(v) => Json::from(String::from_utf8_lossy(v)),
        Value::U64(v) => Json::from(*v),
        Value::I64(v) => Json::from(*v),
        Value::F64(v) => Json::from(*v),
        Value::Array(array) => match array {
            Array::U8(v) => Json::from(v.clone()),
            Array::I8(v) => Json::from(v.clone()),
            Array::U16(v) => Json::from(v.clone()),
            Array::I16(v) => Json::from(v.clone()),
            Array::U32(v) => Json::from(v.clone()),
            Array::I32(v) => Json::from(v.clone()),
            Array::F32(v) => Json::from(v.clone()),
            Array::Bool(v) => Json::from(v.clone()),
            Array::String(v) => v.iter().map(String::from_utf8_lossy).collect(),
            Array::U64(v) => Json::from(v.clone()),
            Array::I64(v) => Json::from(v.clone()),
            Array::F64(v) => Json::from(v.clone()),
        },
    }
}

#[test]
fn crafted_files_read_alike() {
    for seed in 0..50 {
        let bytes = random_file(seed, 40, 20);
        let gguf = crate::budget::parse(&bytes).expect("a valid file");
        if knows(&gguf) {
            agree(&gguf, &bytes);
        }
    }
    let without_nvfp4 = (0..50).filter(|&seed| {
        let bytes = random_file(seed, 40, 20);
        knows(&Gguf::parse(Path::new("x"), &bytes).expect("a valid file"))
    });
    assert!(without_nvfp4.count() > 10, "the comparison must have taken place");
}

#[test]
fn files_of_llama_cpp_read_alike() {
    let Some(folder) = loam_tests::shared("golden") else { return };
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "gguf")).collect();
    assert!(!files.is_empty(), "the golden folder has GGUF files");
    for path in files {
        let bytes = std::fs::read(&path).expect("readable");
        let gguf = Gguf::parse(&path, &bytes).expect("llama.cpp's own file");
        assert!(knows(&gguf));
        agree(&gguf, &bytes);
        // Every tensor's bytes lie where the file says: the end of the last is the end of the file.
        let end = gguf.tensors().iter().map(|t| t.offset + t.bytes).max().unwrap_or(0);
        assert_eq!(end.next_multiple_of(u64::from(gguf.alignment())), bytes.len() as u64);
    }
}
