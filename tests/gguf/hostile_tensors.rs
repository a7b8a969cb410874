//! Tensor declarations and data that lie: cases 10 and 12 to 17 of the hostile-input list.

use loam::gguf::GgmlType;
use loam_files::GgufProblem as Problem;

use crate::budget::{parse, problem, refused};
use crate::craft::{F32, aligned, alignment, file, header, pair, string, tensor, with_tensor};

#[test]
fn case_10_duplicate_names() {
    let tensors = [tensor("t", &[8], F32, 0), tensor("u", &[8], F32, 32), tensor("t", &[8], F32, 64)];
    let (field, offset, problem) = refused(&file(&[], &tensors, &[0; 96]));
    assert_eq!((field.as_str(), offset, problem), ("tensor t", 24 + 2 * 33, Problem::Duplicate));
}

#[test]
fn names_are_at_most_63_bytes() {
    let longest = "n".repeat(63);
    assert!(parse(&with_tensor(tensor(&longest, &[16], F32, 0))).is_ok());
    let longer = with_tensor(tensor(longest + "n", &[16], F32, 0));
    assert_eq!(problem(&longer), Problem::OverLimit { value: 64, limit: 63 });
    assert_eq!(problem(&with_tensor(tensor("", &[16], F32, 0))), Problem::BadName);
}

#[test]
fn case_12_dimensions() {
    for count in [0u32, 5, u32::MAX] {
        let mut bytes = header(3, 1, 0);
        bytes.extend(string("t"));
        bytes.extend(count.to_le_bytes());
        bytes.extend([1; 256]);
        assert!(matches!(problem(&bytes), Problem::BadShape(_)));
    }
    for at in 0..4 {
        for bad in [0, u64::MAX, 1 << 63] {
            let mut shape = [32, 1, 1, 1];
            shape[at] = bad;
            let (field, offset, problem) = refused(&with_tensor(tensor("t", &shape, F32, 0)));
            assert_eq!((field.as_str(), offset), ("tensor t", 24 + 9));
            assert!(matches!(problem, Problem::BadShape(_)), "dimension {at} = {bad}: {problem}");
        }
    }
}

#[test]
fn case_13_sizes_that_wrap() {
    let shapes: [&[u64]; 6] = [
        &[1 << 33, 1 << 33],
        &[1 << 62],
        &[u64::MAX / 4],
        &[4 * (i32::MAX as u64), 4 * (i32::MAX as u64)],
        &[1 << 16, 1 << 16, 1 << 16, 1 << 16],
        &[(1 << 61) - 1],
    ];
    for shape in shapes {
        let problem = problem(&with_tensor(tensor("t", shape, F32, 0)));
        // The last one does not wrap by itself; its bytes exceed what llama.cpp can count or the file can hold.
        assert!(matches!(problem, Problem::SizeOverflow | Problem::Truncated), "{shape:?}: {problem}");
    }
    assert_eq!(problem(&with_tensor(tensor("t", &[1 << 33, 1 << 33], F32, 0))), Problem::SizeOverflow);
    assert_eq!(problem(&with_tensor(tensor("t", &[1 << 62], F32, 0))), Problem::SizeOverflow);
    assert_eq!(problem(&with_tensor(tensor("t", &[u64::MAX / 4], F32, 0))), Problem::SizeOverflow);
}

#[test]
fn case_13_a_sum_of_sizes_that_wraps() {
    // Four tensors of 2^62 bytes: each size fits, their sum does not. The first that passes the end of the file ends
    // it.
    let size = 1u64 << 62;
    let tensors: Vec<_> = (0..4).map(|i| tensor(format!("t{i}"), &[size], 24, i * size)).collect();
    assert_eq!(problem(&file(&[], &tensors, &[0; 64])), Problem::Truncated);
}

#[test]
fn case_14_rows_of_broken_blocks() {
    for ty in GgmlType::all().filter(|ty| ty.block_len() > 1) {
        let block = ty.block_len();
        for row in [1, block - 1, block + 1, block / 2] {
            // The element count is whole blocks, the row is not.
            let problem = problem(&with_tensor(tensor("t", &[row, block], ty.id(), 0)));
            assert_eq!(problem, Problem::BadRow { row, block }, "{}", ty.name());
        }
    }
}

#[test]
fn case_15_types() {
    for id in [4, 5, 31, 32, 33, 36, 37, 38, 41, 42, 99, u32::MAX] {
        let (_, offset, problem) = refused(&with_tensor(tensor("t", &[256], id, 0)));
        assert_eq!((offset, problem), (24 + 9 + 4 + 8, Problem::UnsupportedType(id)));
    }
}

#[test]
fn every_type_is_walked_with_its_block_size() {
    // (id, weights per block, bytes per block) of ggml-common.h.
    let table = [
        (0, 1, 4),
        (1, 1, 2),
        (2, 32, 18),
        (3, 32, 20),
        (6, 32, 22),
        (7, 32, 24),
        (8, 32, 34),
        (9, 32, 36),
        (10, 256, 84),
        (11, 256, 110),
        (12, 256, 144),
        (13, 256, 176),
        (14, 256, 210),
        (15, 256, 292),
        (16, 256, 66),
        (17, 256, 74),
        (18, 256, 98),
        (19, 256, 50),
        (20, 32, 18),
        (21, 256, 110),
        (22, 256, 82),
        (23, 256, 136),
        (24, 1, 1),
        (25, 1, 2),
        (26, 1, 4),
        (27, 1, 8),
        (28, 1, 8),
        (29, 256, 56),
        (30, 1, 2),
        (34, 256, 54),
        (35, 256, 66),
        (39, 32, 17),
        (40, 64, 36),
    ];
    assert_eq!(GgmlType::all().map(|ty| ty.id()).collect::<Vec<_>>(), table.map(|(id, ..)| id));
    for (id, block, bytes) in table {
        let data = vec![0; (3 * bytes as usize).next_multiple_of(32)];
        let gguf = parse(&file(&[], &[tensor("t", &[block, 3], id, 0)], &data)).expect("a valid tensor");
        assert_eq!(gguf.tensors()[0].bytes, 3 * bytes, "type {id}");
    }
}

#[test]
fn case_16_offsets() {
    let two = |first, second| file(&[], &[tensor("a", &[8], F32, first), tensor("b", &[8], F32, second)], &[0; 96]);
    let wrong = [(0, 16), (0, 33), (0, 0), (0, 64), (32, 0), (0, u64::MAX), (u64::MAX, 32), (0, 1 << 40), (64, 32)];
    for (first, second) in wrong {
        let (field, _, problem) = refused(&two(first, second));
        let (name, found, expected) = if first == 0 { ("tensor b", second, 32) } else { ("tensor a", first, 0) };
        assert_eq!((field.as_str(), problem), (name, Problem::BadOffset { found, expected }));
    }
    let right = file(&[], &[tensor("a", &[8], F32, 0), tensor("b", &[8], F32, 32)], &[0; 64]);
    let gguf = parse(&right).expect("contiguous");
    assert_eq!(gguf.tensors()[1].offset, gguf.data_offset() + 32);
    assert_eq!(gguf.data_offset() + 64, right.len() as u64);
}

#[test]
fn case_17_short_and_long() {
    // 5 floats: 20 bytes of data and 12 of padding.
    let one = |length: usize| file(&[], &[tensor("a", &[5], F32, 0)], &vec![0; length]);
    assert!(parse(&one(32)).is_ok());
    for (length, what) in [
        (31, "padding after tensor a"),
        (20, "padding after tensor a"),
        (19, "data of tensor a"),
        (0, "data of tensor a"),
    ] {
        let (field, offset, problem) = refused(&one(length));
        assert_eq!((field.as_str(), problem), (what, Problem::Truncated), "{length} bytes");
        assert_eq!(offset, one(length).len() as u64);
    }
    for extra in [1, 32, 1 << 20] {
        assert_eq!(problem(&one(32 + extra)), Problem::TrailingBytes { extra: extra as u64 });
    }
}

#[test]
fn a_file_without_tensors_may_end_unpadded() {
    let unpadded = [header(3, 0, 1), pair("k", 0, [7])].concat();
    let padded = file(&[pair("k", 0, [7])], &[], &[]);
    assert_ne!(unpadded.len(), padded.len());
    assert!(parse(&unpadded).is_ok() && parse(&padded).is_ok());
    assert_eq!(problem(&padded[..padded.len() - 1]), Problem::Truncated);
    assert_eq!(problem(&[padded, vec![0]].concat()), Problem::TrailingBytes { extra: 1 });
}

#[test]
fn the_most_keys_and_tensors_stay_within_the_budget() {
    let count = 65_536u32;
    let pairs: Vec<_> = [alignment(1)].into_iter().chain((1..count).map(|i| pair(format!("{i:x}"), 0, [1]))).collect();
    let tensors: Vec<_> = (0..count).map(|i| tensor(format!("{i:x}"), &[1, 1, 1, 1], 24, u64::from(i))).collect();
    let gguf = parse(&aligned(1, &pairs, &tensors, &vec![0; count as usize])).expect("at the limits");
    assert_eq!((gguf.metadata().len(), gguf.tensors().len()), (65_536, 65_536));
    assert_eq!(gguf.tensor("ffff").map(|t| t.offset - gguf.data_offset()).ok(), Some(65_535));
    assert!(gguf.opt_tensor("10000").is_none());
}
