//! Headers and metadata that lie. Numbers are those of the hostile-input list: each gives a typed error that names the
//! field and its offset, under the budget of [`crate::budget`].

use loam::gguf::{Array, MAX_ALIGNMENT, MAX_HEADER, MAX_KEY, MAX_STRING, Value};
use loam_files::GgufProblem as Problem;

use crate::budget::{parse, problem, refused};
use crate::craft::{
    ARRAY, STRING, aligned, alignment, array, file, header, pair, string, tensor, with_pair, with_tensor,
};

#[test]
fn case_1_tiny_files() {
    let full = header(3, 0, 0);
    for length in 0..24 {
        let (field, offset, problem) = refused(&full[..length]);
        assert_eq!((field.as_str(), offset, problem), ("header", length as u64, Problem::Truncated));
    }
    assert!(parse(&full).is_ok());
}

#[test]
fn case_3_magic_and_version() {
    for magic in [b"GGML", b"ggjt", b"PK\x03\x04", b"\0\0\0\0"] {
        let bytes = [&magic[..], &header(3, 0, 0)[4..]].concat();
        assert_eq!(problem(&bytes), Problem::BadMagic);
    }
    for version in [0, 1, 4, u32::MAX] {
        assert_eq!(problem(&header(version, 0, 0)), Problem::UnsupportedVersion(version.to_string()));
    }
    assert_eq!(parse(&header(2, 0, 0)).map(|gguf| gguf.version()).ok(), Some(2));
}

#[test]
fn case_3_big_endian_is_named() {
    let swapped_version = problem(&header(3u32.swap_bytes(), 0, 0)).to_string();
    assert_eq!(swapped_version, "unsupported GGUF version 3 (big-endian byte order)");
    let swapped_magic = [&b"FUGG"[..], &header(3u32.swap_bytes(), 0, 0)[4..]].concat();
    assert!(problem(&swapped_magic).to_string().contains("big-endian"));
}

#[test]
fn case_4_counts_beyond_the_file() {
    for claimed in [u64::MAX, 1 << 63, 500_000_000, 1] {
        let expected = Problem::CountExceedsFile { claimed, possible: 0 };
        let (field, offset, tensors) = refused(&header(3, claimed, 0));
        assert_eq!((field.as_str(), offset, &tensors), ("header", 8, &expected));
        let (_, offset, pairs) = refused(&header(3, 0, claimed));
        assert_eq!((offset, pairs), (16, expected));
    }
    // A count that the bytes allow, but no model needs.
    let mut many = header(3, 0, 65_537);
    many.resize(2 << 20, 0);
    assert_eq!(problem(&many), Problem::OverLimit { value: 65_537, limit: 65_536 });
}

#[test]
fn case_5_lengths_beyond_the_file() {
    for length in [u64::MAX, 1 << 63, 1 << 31, MAX_KEY + 1] {
        let mut bytes = header(3, 0, 1);
        bytes.extend(length.to_le_bytes());
        bytes.extend([b'k'; 64]);
        assert_eq!(problem(&bytes), Problem::OverLimit { value: length, limit: MAX_KEY });
    }
    let (field, offset, empty) = refused(&with_pair(pair("", 4, [0; 16])));
    assert_eq!((field.as_str(), offset, empty), ("key 0", 24, Problem::BadName));

    let longer_than_rest = [&100u64.to_le_bytes()[..], b"short"].concat();
    let (field, _, problem) = refused(&with_pair(pair("general.name", STRING, longer_than_rest)));
    assert_eq!(field, "value of general.name");
    assert!(matches!(problem, Problem::CountExceedsFile { claimed: 100, .. }));
}

#[test]
fn case_5_a_gigabyte_claimed_by_a_tiny_file_is_not_allocated() {
    for claimed in [1u64 << 30, MAX_STRING + 1, MAX_STRING] {
        let bytes = with_pair(pair("k", STRING, claimed.to_le_bytes()));
        assert!(matches!(problem(&bytes), Problem::OverLimit { .. } | Problem::CountExceedsFile { .. }));
    }
}

#[test]
fn limits_hold_although_the_bytes_are_there() {
    // Zeroed memory that is never touched: the limits are checked before the bytes are read.
    let with_bytes = |start: Vec<u8>, rest: u64| {
        let mut bytes = vec![0; start.len() + rest as usize];
        bytes[..start.len()].copy_from_slice(&start);
        problem(&bytes)
    };
    let long = [header(3, 0, 1), pair("k", STRING, (MAX_STRING + 1).to_le_bytes())].concat();
    assert_eq!(with_bytes(long, MAX_STRING + 1), Problem::OverLimit { value: MAX_STRING + 1, limit: MAX_STRING });
    let bloated = [header(3, 0, 1), pair("k", ARRAY, array(0, MAX_HEADER, []))].concat();
    let value = bloated.len() as u64 + MAX_HEADER;
    assert_eq!(with_bytes(bloated, MAX_HEADER), Problem::OverLimit { value, limit: MAX_HEADER });
}

#[test]
fn key_length_limit_is_exact() {
    let key = "k".repeat(MAX_KEY as usize);
    assert!(parse(&with_pair(pair(&key, 0, [7]))).is_ok());
    let longer = format!("{key}k");
    assert_eq!(problem(&with_pair(pair(longer, 0, [7]))), Problem::OverLimit { value: MAX_KEY + 1, limit: MAX_KEY });
}

#[test]
fn case_6_keys_are_text_and_values_are_bytes() {
    for key in [&b"\xff\xfe"[..], b"a\0b", b"\xc3"] {
        assert_eq!(problem(&with_pair(pair(key, 0, [7]))), Problem::BadName);
        assert_eq!(problem(&with_tensor(tensor(key, &[16], 0, 0))), Problem::BadName);
    }
    let tokens = [string("ok"), string(b"\xff\0\xc3"), string("")].concat();
    let pairs = [pair("tokens", ARRAY, array(STRING, 3, tokens)), pair("raw", STRING, string(b"\x1b\xff"))];
    let gguf = parse(&file(&pairs, &[], &[])).expect("bytes are allowed in values");
    let list = gguf.byte_strings("tokens").expect("strings");
    assert_eq!(list.iter().collect::<Vec<_>>(), [&b"ok"[..], b"\xff\0\xc3", b""]);
    assert_eq!(gguf.metadata().get("raw"), Some(&Value::String(b"\x1b\xff".to_vec())));
    assert!(gguf.strings("tokens").expect_err("not UTF-8").to_string().contains("entry 1 is not UTF-8"));
}

#[test]
fn case_7_value_types_and_bools() {
    for ty in [13, 14, 255, u32::MAX] {
        assert_eq!(problem(&with_pair(pair("k", ty, [0; 64]))), Problem::BadValueType(ty));
        assert_eq!(problem(&with_pair(pair("k", ARRAY, array(ty, 1, [0; 64])))), Problem::BadValueType(ty));
    }
    for byte in [2, 255] {
        let (_, offset, problem) = refused(&with_pair(pair("k", 7, [byte])));
        assert_eq!((offset, problem), (24 + 8 + 1 + 4, Problem::BadBool(byte)));
    }
    let (_, offset, problem) = refused(&with_pair(pair("k", ARRAY, array(7, 4, [0, 1, 2, 3]))));
    assert_eq!((offset, problem), (24 + 8 + 1 + 4 + 4 + 8 + 2, Problem::BadBool(2)));
}

#[test]
fn case_8_nested_arrays() {
    let mut deep = Vec::new();
    for _ in 0..10_000 {
        deep.extend(array(ARRAY, 1, []));
    }
    assert_eq!(problem(&with_pair(pair("k", ARRAY, deep))), Problem::NestedArray);
}

#[test]
fn case_9_array_counts() {
    for (ty, size) in [(0, 1), (2, 2), (4, 4), (10, 8), (12, 8), (STRING, 8)] {
        for claimed in [u64::MAX, 1 << 63, (1 << 61) + 1, 1 << 61, 17] {
            let (field, offset, problem) = refused(&with_pair(pair("k", ARRAY, array(ty, claimed, vec![0; 2 * size]))));
            let at = (field.as_str(), offset);
            assert_eq!(at, ("value of k", 24 + 8 + 1 + 4 + 4));
            assert!(matches!(problem, Problem::CountExceedsFile { claimed: c, .. } if c == claimed));
        }
    }
    // An array whose strings end past the file although their count is right.
    let items = [string("a"), 1000u64.to_le_bytes().to_vec()].concat();
    let bytes = with_pair(pair("k", ARRAY, array(STRING, 2, items)));
    assert!(matches!(problem(&bytes), Problem::CountExceedsFile { claimed: 1000, .. }));
}

#[test]
fn arrays_of_every_type_and_empty_ones() {
    for ty in [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12] {
        let items = if ty == STRING { string("x") } else { [1, 0, 0, 0, 0, 0, 0, 0].to_vec() };
        let size = [1, 1, 2, 2, 4, 4, 4, 1, 9, 0, 8, 8, 8][ty as usize];
        let pairs = [pair("one", ARRAY, array(ty, 1, &items[..size])), pair("none", ARRAY, array(ty, 0, []))];
        let gguf = parse(&file(&pairs, &[], &[])).expect("valid arrays");
        for (key, count) in [("one", 1), ("none", 0)] {
            let Some(Value::Array(array)) = gguf.metadata().get(key) else { panic!("{key} is no array") };
            assert_eq!((array.len(), array.type_id()), (count, ty));
        }
    }
    let gguf = parse(&with_pair(pair("k", ARRAY, array(3, 2, [0xff, 0xff, 2, 0])))).expect("valid");
    assert_eq!(gguf.metadata().get("k"), Some(&Value::Array(Array::I16(vec![-1, 2]))));
}

#[test]
fn case_10_duplicate_keys() {
    let pairs = [pair("a", 0, [1]), pair("b", 0, [2]), pair("a", 4, [3; 4])];
    let (field, offset, problem) = refused(&file(&pairs, &[], &[]));
    assert_eq!((field.as_str(), offset, problem), ("key a", 24 + 14 + 14, Problem::Duplicate));
}

#[test]
fn case_11_alignment() {
    for value in [0, 13, 33, 1 << 31, MAX_ALIGNMENT * 2, u32::MAX] {
        assert_eq!(problem(&with_pair(alignment(value))), Problem::BadAlignment(value.to_string()));
    }
    for (ty, value) in [(5, 32i32.to_le_bytes().to_vec()), (STRING, string("32")), (10, 32u64.to_le_bytes().to_vec())] {
        let wrong_type = with_pair(pair("general.alignment", ty, value));
        assert!(matches!(problem(&wrong_type), Problem::BadAlignment(why) if why.starts_with("of type")));
    }
    for value in [1, 2, 8, 64, 4096, MAX_ALIGNMENT] {
        let bytes = aligned(value as usize, &[alignment(value)], &[], &[]);
        assert_eq!(parse(&bytes).map(|gguf| gguf.alignment()).ok(), Some(value));
    }
}

#[test]
fn names_in_messages_cannot_drive_a_terminal() {
    let escape = "\u{1b}]0;owned\u{7}\u{202e}";
    for bytes in [with_pair(pair(escape, 99, [])), with_tensor(tensor(escape, &[16], 99, 0))] {
        let message = parse(&bytes).expect_err("unknown type").to_string();
        assert!(!message.contains(|c: char| c.is_control() || c == '\u{202e}'), "{message:?}");
        assert!(message.contains("owned"));
    }
}
