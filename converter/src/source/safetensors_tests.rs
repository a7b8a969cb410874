//! Hostile headers and indices: each is refused with a message that names what is wrong.

use std::path::PathBuf;

use super::*;

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn open(bytes: &[u8]) -> Result<Checkpoint> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path)
}

const TWO: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]}}"#;

#[test]
fn reads_views_in_place() {
    let checkpoint = open(&file(TWO, 12)).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
    let b = checkpoint.tensor("b").unwrap().unwrap();
    assert_eq!((b.format, b.shape, b.bytes.len()), (Format::BF16, &[2usize, 1][..], 4));
    assert!(checkpoint.tensor("c").unwrap().is_none());
}

#[test]
fn every_cut_is_an_error() {
    let whole = file(TWO, 12);
    for length in 0..whole.len() {
        assert!(open(&whole[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn hostile_headers_are_errors() {
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let many: Vec<String> =
        (0..70_000).map(|i| format!(r#""t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#)).collect();
    let t = |dtype: &str, shape: &str, range: &str| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{range}}}"#)
    };
    let cases = [
        ("overlap", format!(r#"{{"a":{},"b":{}}}"#, t("F32", "[2]", "[0,8]"), t("F32", "[1]", "[4,8]")), 8),
        ("hole", format!(r#"{{"a":{},"b":{}}}"#, t("F32", "[1]", "[0,4]"), t("F32", "[1]", "[8,12]")), 12),
        ("tail", TWO.to_string(), 13),
        ("shape", format!(r#"{{"a":{}}}"#, t("F32", "[3]", "[0,8]")), 8),
        ("wrap", format!(r#"{{"a":{}}}"#, t("F32", "[2,18446744073709551614]", "[0,8]")), 8),
        ("dtype", format!(r#"{{"a":{}}}"#, t("F5", "[2]", "[0,8]")), 8),
        ("duplicate", format!(r#"{{"a":{0},"a":{0}}}"#, t("F32", "[2]", "[0,8]")), 8),
        ("metadata", format!(r#"{{"__metadata__":{{"a":1}},"a":{}}}"#, t("F32", "[2]", "[0,8]")), 8),
        ("not json", "{".into(), 0),
        ("deep", deep, 0),
        ("many", format!("{{{}}}", many.join(",")), 0),
    ];
    for (what, header, data) in cases {
        assert!(matches!(open(&file(&header, data)), Err(Error::Safetensors { .. })), "{what}");
    }
    for length in [1u64 << 63, 100_000_001, u64::MAX, 5000] {
        let mut bytes = file(TWO, 12);
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        assert!(matches!(open(&bytes), Err(Error::Safetensors { .. })), "header length {length}");
    }
    let mut bytes = file(TWO, 12);
    bytes[12] = 0xff;
    assert!(matches!(open(&bytes), Err(Error::Safetensors { .. })), "not UTF-8");
}

#[test]
fn other_element_types_are_named_when_used() {
    let checkpoint = open(&file(r#"{"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}"#, 2)).unwrap();
    let message = checkpoint.tensor("a").unwrap_err().to_string();
    assert!(message.contains("tensor a") && message.contains("I8"), "{message}");
}

fn sharded(index: &str) -> Result<Checkpoint> {
    let dir = tempfile::tempdir().unwrap();
    let one = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let two = r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    std::fs::create_dir(dir.path().join("m")).unwrap();
    let put = |name: &str, bytes: Vec<u8>| std::fs::write(dir.path().join(name), bytes).unwrap();
    put("m/1.safetensors", file(one, 8));
    put("m/2.safetensors", file(two, 8));
    put("outside.safetensors", file(two, 8));
    let path: PathBuf = dir.path().join("m/model.safetensors.index.json");
    std::fs::write(&path, index).unwrap();
    Checkpoint::open_sharded(&path)
}

#[test]
fn an_index_joins_shards_and_stays_in_its_folder() {
    let good = sharded(r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#).unwrap();
    assert_eq!(good.names().count(), 2);
    let cases = [
        r#"{"weight_map":{"a":"1.safetensors","b":"../outside.safetensors"}}"#,
        r#"{"weight_map":{"a":"1.safetensors","b":"/etc/passwd"}}"#,
        r#"{"weight_map":{"a":"1.safetensors","b":"./2.safetensors"}}"#,
        r#"{"weight_map":{"a":"1.safetensors","b":".."}}"#,
        r#"{"weight_map":{"a":"1.safetensors","b":"3.safetensors"}}"#,
        r#"{"weight_map":{"a":"1.safetensors","b":"1.safetensors"}}"#,
        r#"{"weight_map":{"a":"2.safetensors","b":"1.safetensors"}}"#,
        r#"{"weight_map":{"a":"1.safetensors","b":7}}"#,
        r#"{"weight_map":{}}"#,
        r#"{"metadata":{}}"#,
        "[]",
    ];
    for index in cases {
        assert!(sharded(index).is_err(), "{index}");
    }
}
