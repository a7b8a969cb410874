//! What the writer writes, the reader reads back unchanged, bit for bit; and what the writer must refuse.

use std::io;
use std::path::Path;

use loam::gguf::{Array, GgmlType, Gguf, Metadata, Strings, TensorDeclaration, Value, Writer, file_size};
use loam_files::Error;
use proptest::collection::{hash_set, vec};
use proptest::prelude::*;

use crate::budget;

/// A value as it stands in a file, after its type.
pub fn encoded(value: &Value) -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.set("k", value.clone());
    // A value starts after header, key and type; no tensors: one padding at the end, which alignment 1 removes.
    metadata.set("general.alignment", 1u32);
    let bytes = write(&metadata, &[], &[]);
    bytes[24 + 9 + 4..bytes.len() - (8 + 17 + 4 + 4)].to_vec()
}

fn declaration(name: &str, shape: &[u64], ty: GgmlType) -> TensorDeclaration {
    TensorDeclaration { name: name.into(), shape: shape.to_vec(), ty }
}

fn new_writer(metadata: &Metadata, tensors: &[TensorDeclaration]) -> loam_files::Result<Writer<Vec<u8>>> {
    Writer::new(Vec::new(), Path::new("out.gguf"), metadata, tensors)
}

fn write(metadata: &Metadata, tensors: &[TensorDeclaration], data: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = new_writer(metadata, tensors).expect("valid declarations");
    for (tensor, data) in tensors.iter().zip(data) {
        // In uneven pieces, as a converter streams rows.
        data.chunks(7).for_each(|chunk| writer.write(&tensor.name, chunk).expect("in turn"));
    }
    writer.finish().expect("complete")
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = || vec(any::<u8>(), 0..20);
    let numbers = prop_oneof![
        any::<u8>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<u32>().prop_map(|bits| Value::F32(f32::from_bits(bits))),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
    ];
    let arrays = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Value::from),
        vec(any::<i8>(), 0..9).prop_map(Value::from),
        vec(any::<u16>(), 0..9).prop_map(Value::from),
        vec(any::<i16>(), 0..9).prop_map(Value::from),
        vec(any::<u32>(), 0..9).prop_map(Value::from),
        vec(any::<i32>(), 0..9).prop_map(Value::from),
        vec(any::<u32>().prop_map(f32::from_bits), 0..9).prop_map(Value::from),
        vec(any::<bool>(), 0..9).prop_map(Value::from),
        vec(any::<u64>(), 0..9).prop_map(Value::from),
        vec(any::<i64>(), 0..9).prop_map(Value::from),
        vec(any::<u64>().prop_map(f64::from_bits), 0..9).prop_map(Value::from),
        vec(text(), 0..9).prop_map(|list| Value::from(list.into_iter().collect::<Strings>())),
    ];
    prop_oneof![numbers, text().prop_map(Value::String), arrays]
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let key = "[a-z][a-z0-9_.]{0,20}|\\PC{1,8}";
    let alignment = proptest::option::of(0u32..9);
    (vec((key, any_value()), 0..20), alignment).prop_map(|(entries, alignment)| {
        let mut metadata = Metadata::new();
        entries.into_iter().for_each(|(key, value)| metadata.set(key, value));
        metadata.remove("general.alignment");
        if let Some(exponent) = alignment {
            metadata.set("general.alignment", 1u32 << exponent);
        }
        metadata
    })
}

/// Tensors of any type with unique names, in any order.
pub fn any_tensors() -> impl Strategy<Value = Vec<TensorDeclaration>> {
    let types: Vec<GgmlType> = GgmlType::all().collect();
    let tensor = (proptest::sample::select(types), 1u64..3, vec(1u64..4, 0..4));
    (hash_set("[a-z0-9_.]{1,63}|\\PC{1,15}", 0..12), vec(tensor, 12)).prop_map(|(names, tensors)| {
        let declare = |(name, (ty, blocks, rest)): (String, (GgmlType, u64, Vec<u64>))| {
            let shape = [vec![blocks * ty.block_len()], rest].concat();
            TensorDeclaration { name, shape, ty }
        };
        names.into_iter().zip(tensors).map(declare).collect()
    })
}

/// Bytes for each tensor that differ from tensor to tensor.
fn data_for(tensors: &[TensorDeclaration]) -> Vec<Vec<u8>> {
    let bytes = |t: &TensorDeclaration| t.ty.bytes(t.shape.iter().product()).expect("whole blocks") as usize;
    tensors.iter().enumerate().map(|(i, t)| (0..bytes(t)).map(|b| (b * 31 + i * 101) as u8).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_files_read_back(metadata in any_metadata(), tensors in any_tensors()) {
        let data = data_for(&tensors);
        let bytes = write(&metadata, &tensors, &data);
        prop_assert_eq!(bytes.len() as u64, file_size(Path::new("out.gguf"), &metadata, &tensors).expect("valid"));
        let gguf = budget::parse(&bytes).expect("own file");
        // The debug form compares NaN as equal; their bits are compared by the second writing.
        prop_assert_eq!(format!("{:?}", gguf.metadata()), format!("{:?}", &metadata));
        prop_assert_eq!(gguf.tensors().len(), tensors.len());
        for ((info, declared), data) in gguf.tensors().iter().zip(&tensors).zip(&data) {
            prop_assert_eq!((&info.name, &info.shape, info.ty), (&declared.name, &declared.shape, declared.ty));
            let start = info.offset as usize;
            prop_assert_eq!(&bytes[start..start + info.bytes as usize], &data[..]);
            prop_assert_eq!(info.offset % u64::from(gguf.alignment()), 0);
            prop_assert_eq!(gguf.opt_tensor(&info.name), Some(info));
        }
        prop_assert_eq!(write(gguf.metadata(), &tensors, &data), bytes.clone());
        if crate::second_reader::knows(&gguf) {
            crate::second_reader::agree(&gguf, &bytes);
        }
    }
}

#[test]
fn declarations_that_no_reader_takes() {
    let none = Metadata::new();
    let f32 = GgmlType::F32;
    let bad = [
        (vec![declaration("", &[1], f32)], "not a valid name"),
        (vec![declaration(&"n".repeat(64), &[1], f32)], "is 64, the limit is 63"),
        (vec![declaration("a", &[1], f32), declaration("a", &[1], f32)], "duplicate of an earlier entry"),
        (vec![declaration("a", &[], f32)], "bad shape []"),
        (vec![declaration("a", &[1; 5], f32)], "bad shape [1, 1, 1, 1, 1]"),
        (vec![declaration("a", &[4, 0], f32)], "bad shape [4, 0]"),
        (vec![declaration("a", &[48], GgmlType::Q4_0)], "row length 48 is no multiple of the block of 32 weights"),
        (vec![declaration("a", &[1 << 40, 1 << 40], f32)], "size overflows"),
        (vec![declaration("a", &[1 << 60], f32), declaration("b", &[1 << 60], f32)], "size overflows"),
    ];
    for (tensors, expected) in bad {
        match new_writer(&none, &tensors).map(|_| ()) {
            Err(Error::Tensor { problem, path, .. }) => {
                assert_eq!((problem.to_string().as_str(), path.as_path()), (expected, Path::new("out.gguf")));
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn metadata_that_no_reader_takes() {
    let long = "k".repeat(65_536);
    let entries = [
        ("", Value::from(1u32)),
        ("nul\0", Value::from(1u32)),
        (&long, Value::from(1u32)),
        ("general.alignment", Value::from(13u32)),
        ("general.alignment", Value::from(32u64)),
        ("general.alignment", Value::from(1u32 << 17)),
    ];
    for (key, value) in entries {
        let mut metadata = Metadata::new();
        metadata.set(key, value);
        assert!(matches!(new_writer(&metadata, &[]), Err(Error::Metadata { .. })), "{key}");
    }
}

#[test]
fn data_out_of_turn_too_long_or_missing() {
    let tensors = [declaration("a", &[4], GgmlType::F32), declaration("b", &[4], GgmlType::F32)];
    let start = || new_writer(&Metadata::new(), &tensors).expect("valid");
    let message = |result: loam_files::Result<()>| result.expect_err("must be refused").to_string();

    let mut writer = start();
    assert_eq!(message(writer.write("b", &[0; 16])), "out.gguf: tensor b: comes while a has 0 of 16 bytes");
    assert_eq!(message(writer.write("a", &[0; 17])), "out.gguf: tensor a: gets 17 bytes, its size is 16");
    writer.write("a", &[0; 10]).expect("a part");
    assert_eq!(message(writer.write("a", &[0; 7])), "out.gguf: tensor a: gets 17 bytes, its size is 16");
    assert_eq!(message(writer.finish().map(|_| ())), "out.gguf: tensor a: has 10 of 16 bytes");

    let mut writer = start();
    writer.write("a", &[0; 16]).expect("whole");
    assert_eq!(writer.next().map(|t| t.name.as_str()), Some("b"));
    writer.write("b", &[0; 16]).expect("whole");
    assert_eq!(message(writer.write("b", &[0])), "out.gguf: tensor b: comes after the last declared tensor");
    let bytes = writer.finish().expect("complete");
    assert!(Gguf::parse(Path::new("x"), &bytes).is_ok());
}

/// Takes `room` bytes, then the disk is full.
struct SmallDisk(usize);

impl io::Write for SmallDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let written = bytes.len().min(self.0);
        self.0 -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_at_every_byte() {
    let tensors = [declaration("a", &[5], GgmlType::F32), declaration("b", &[3], GgmlType::F16)];
    let size = file_size(Path::new("out.gguf"), &Metadata::new(), &tensors).expect("valid") as usize;
    let attempt = |room: usize| -> loam_files::Result<()> {
        let mut writer = Writer::new(SmallDisk(room), Path::new("out.gguf"), &Metadata::new(), &tensors)?;
        writer.write("a", &[1; 20])?;
        writer.write("b", &[2; 6])?;
        writer.finish().map(|_| ())
    };
    for room in 0..size {
        match attempt(room) {
            Err(Error::Io { action: "write", path, source }) => {
                assert_eq!((path.as_path(), source.kind()), (Path::new("out.gguf"), io::ErrorKind::StorageFull));
            }
            other => panic!("{room} bytes: {other:?}"),
        }
    }
    assert!(attempt(size).is_ok());
}

#[test]
fn the_empty_file_and_the_order_of_arrays_survive() {
    let bytes = write(&Metadata::new(), &[], &[]);
    assert!(budget::parse(&bytes).expect("empty").metadata().is_empty());
    let array = Value::Array(Array::I64(vec![-1, i64::MAX, 0]));
    assert_eq!(encoded(&array)[12..20], (-1i64).to_le_bytes());
}
