//! The handcrafted files of llama.cpp's `tests/test-gguf.cpp`, under its names: what it refuses, the reader refuses
//! too.

use loam_files::GgufProblem as Problem;
use loam_tests::Random;

use crate::budget::{parse, problem};
use crate::craft::{
    F32, Tensor, aligned, alignment, array, declare, file, header, pair, random_pairs, random_tensors, tensor,
};

const SEED: u64 = 1234567890;

fn pairs() -> Vec<Vec<u8>> {
    random_pairs(&mut Random::new(SEED), 100).iter().map(|(key, ty, value)| pair(key, *ty, value)).collect()
}

fn tensors() -> Vec<Tensor> {
    random_tensors(&mut Random::new(SEED + 1), 100)
}

#[test]
fn header_bad() {
    let bad_magic = [&b"FUGG"[..], &header(3, 0, 0)[4..]].concat();
    assert!(matches!(problem(&bad_magic), Problem::UnsupportedVersion(_)), "HEADER_BAD_MAGIC");
    for (name, version) in [("0", 0), ("1", 1), ("FUTURE", 4)] {
        assert!(matches!(problem(&header(version, 0, 0)), Problem::UnsupportedVersion(_)), "HEADER_BAD_VERSION_{name}");
    }
    assert!(matches!(problem(&header(3, u64::MAX, 0)), Problem::CountExceedsFile { .. }), "HEADER_BAD_N_TENSORS");
    assert!(matches!(problem(&header(3, 0, u64::MAX)), Problem::CountExceedsFile { .. }), "HEADER_BAD_N_KV");
}

#[test]
fn header_empty() {
    let gguf = parse(&header(3, 0, 0)).expect("HEADER_EMPTY");
    assert!(gguf.metadata().is_empty() && gguf.tensors().is_empty());
}

#[test]
fn kv_bad() {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut pairs = pairs();
        change(&mut pairs[50]);
        problem(&file(&pairs, &[], &[]))
    };
    let key_size = with(&|pair| pair[..8].copy_from_slice(&u64::MAX.to_le_bytes()));
    assert!(matches!(key_size, Problem::OverLimit { .. }), "KV_BAD_KEY_SIZE");
    // "my_key_50" is 9 bytes long.
    let ty = with(&|pair| pair[17..21].copy_from_slice(&13u32.to_le_bytes()));
    assert_eq!(ty, Problem::BadValueType(13), "KV_BAD_TYPE");
    let value_size = with(&|p| *p = pair("my_key_50", 9, array(4, u64::MAX, [0; 64])));
    assert!(matches!(value_size, Problem::CountExceedsFile { .. }), "KV_BAD_VALUE_SIZE");
}

#[test]
fn kv_duplicate_key() {
    let named = |(i, (_, ty, value)): (usize, &(String, u32, Vec<u8>))| pair(format!("my_key_{}", i / 2), *ty, value);
    let pairs: Vec<_> = random_pairs(&mut Random::new(SEED), 100).iter().enumerate().map(named).collect();
    assert_eq!(problem(&file(&pairs, &[], &[])), Problem::Duplicate);
}

#[test]
fn bad_align() {
    let (declarations, length) = declare(&tensors(), 32);
    let pairs = [pairs(), vec![alignment(13)]].concat();
    assert!(matches!(problem(&file(&pairs, &[], &[])), Problem::BadAlignment(_)), "KV_BAD_ALIGN");
    for data in [0, length] {
        let bytes = file(&pairs, &declarations, &vec![0; data]);
        assert!(matches!(problem(&bytes), Problem::BadAlignment(_)), "TENSORS_BAD_ALIGN, DATA_BAD_ALIGN");
    }
}

#[test]
fn kv_success() {
    let random = random_pairs(&mut Random::new(SEED), 256);
    let pairs: Vec<_> = random.iter().map(|(key, ty, value)| pair(key, *ty, value)).collect();
    let gguf = parse(&file(&pairs, &[], &[])).expect("KV_SUCCESS");
    assert_eq!(gguf.metadata().len(), 256);
    for ((key, value), (expected_key, ty, bytes)) in gguf.metadata().iter().zip(&random) {
        assert_eq!((key, value.type_id()), (expected_key.as_str(), *ty));
        assert_eq!(crate::round_trip::encoded(value), *bytes, "{key}");
    }
}

#[test]
fn tensors_bad() {
    let tensors = tensors();
    let with = |change: &dyn Fn(usize, &Tensor, u64) -> Vec<u8>| {
        let mut offset = 0;
        let mut declarations = Vec::new();
        for (i, tensor) in tensors.iter().enumerate() {
            declarations.push(change(i, tensor, offset as u64));
            offset = (offset + tensor.3).next_multiple_of(32);
        }
        problem(&file(&pairs(), &declarations, &vec![0; offset]))
    };
    let long = with(&|i, (_, shape, ty, _), at| tensor(format!("{:n<64}", i), shape, *ty, at));
    assert!(matches!(long, Problem::OverLimit { value: 64, .. }), "TENSORS_BAD_NAME_SIZE");
    let dims = with(&|_, (name, _, ty, _), at| tensor(name, &[256, 1, 1, 1, 1], *ty, at));
    assert!(matches!(dims, Problem::BadShape(_)), "TENSORS_BAD_N_DIMS");
    let shape = with(&|_, (name, shape, ty, _), at| tensor(name, &vec![u64::MAX; shape.len()], *ty, at));
    assert!(matches!(shape, Problem::BadShape(_)), "TENSORS_BAD_SHAPE");
    let big = 4 * i32::MAX as u64;
    let ne = with(&|_, (name, _, _, _), at| tensor(name, &[big, big], F32, at));
    assert_eq!(ne, Problem::SizeOverflow, "TENSORS_NE_TOO_BIG");
    let ty = with(&|_, (name, shape, _, _), at| tensor(name, shape, 43, at));
    assert_eq!(ty, Problem::UnsupportedType(43), "TENSORS_BAD_TYPE");
    let offset = with(&|_, (name, shape, ty, _), _| tensor(name, shape, *ty, u64::MAX));
    assert!(matches!(offset, Problem::BadOffset { expected: 0, .. }), "TENSORS_BAD_OFFSET");
    let name = with(&|_, (_, shape, ty, _), at| tensor("my_tensor", shape, *ty, at));
    assert_eq!(name, Problem::Duplicate, "TENSORS_DUPLICATE_NAME");
}

#[test]
fn inconsistent_align() {
    let (declarations, length) = declare(&tensors(), 1);
    for data in [length, length.next_multiple_of(32) + 4096] {
        let bytes = file(&pairs(), &declarations, &vec![0; data]);
        let problem = problem(&bytes);
        assert!(matches!(problem, Problem::BadOffset { .. }), "TENSORS_ and DATA_INCONSISTENT_ALIGN: {problem}");
    }
}

#[test]
fn tensors_and_data_success() {
    for (alignment_bytes, key) in [(32, None), (1, Some(1)), (64, Some(64))] {
        let tensors = tensors();
        let (declarations, length) = declare(&tensors, alignment_bytes);
        let data: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let pairs = [pairs(), key.map(alignment).into_iter().collect()].concat();
        let bytes = aligned(alignment_bytes, &pairs, &declarations, &data);
        let gguf = parse(&bytes).expect("TENSORS_SUCCESS, DATA_SUCCESS, _CUSTOM_ALIGN");
        let mut at = 0;
        for (info, (name, shape, ty, size)) in gguf.tensors().iter().zip(&tensors) {
            assert_eq!((&info.name, &info.shape, info.ty.id(), info.bytes), (name, shape, *ty, *size as u64));
            let start = info.offset as usize;
            assert_eq!(bytes[start..start + size], data[at..at + size]);
            at = (at + size).next_multiple_of(alignment_bytes);
        }
    }
}

#[test]
fn data_not_enough_data() {
    let (declarations, length) = declare(&tensors(), 32);
    assert!(parse(&file(&pairs(), &declarations, &vec![0; length])).is_ok());
    assert_eq!(problem(&file(&pairs(), &declarations, &vec![0; length - 1])), Problem::Truncated);
    assert_eq!(problem(&file(&pairs(), &declarations, &[])), Problem::Truncated);
}
