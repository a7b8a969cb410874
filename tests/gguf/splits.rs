//! Split models: case 22 of the hostile-input list, and that a split reads as the whole file.

use std::path::{Path, PathBuf};

use loam::gguf::{
    GgmlType, GgufFile, Metadata, SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS, TensorDeclaration, Writer, shard_path,
};
use tempfile::TempDir;

/// Three tensors of one row of F32 each.
const TENSORS: [(&str, [f32; 4]); 3] =
    [("a", [1.0, 2.0, 3.0, 4.0]), ("b", [-1.0, 0.5, 0.25, 0.0]), ("c", [7.0, 8.0, 9.0, 10.0])];

fn write(path: &Path, metadata: &Metadata, tensors: &[(&str, [f32; 4])]) {
    let declare =
        |(name, _): &(&str, [f32; 4])| TensorDeclaration { name: (*name).into(), shape: vec![4], ty: GgmlType::F32 };
    let declarations: Vec<_> = tensors.iter().map(declare).collect();
    let mut writer = Writer::new(Vec::new(), path, metadata, &declarations).expect("valid");
    tensors.iter().for_each(|(name, row)| writer.write(name, bytemuck::cast_slice(row)).expect("in turn"));
    std::fs::write(path, writer.finish().expect("complete")).expect("written");
}

fn keys(no: u16, count: u16, tensors: i32) -> Metadata {
    let mut metadata = Metadata::new();
    if no == 0 {
        metadata.set("general.architecture", "llama");
        metadata.set("general.name", "split");
    }
    metadata.set(SPLIT_NO, no);
    metadata.set(SPLIT_COUNT, count);
    metadata.set(SPLIT_TENSORS, tensors);
    metadata
}

/// `m-0000N-of-00003.gguf`, a tensor in each.
fn split() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (no, tensor) in (0..).zip(TENSORS) {
        write(&shard(&folder, no), &keys(no, 3, 3), &[tensor]);
    }
    let first = shard(&folder, 0);
    (folder, first)
}

fn shard(folder: &TempDir, no: u16) -> PathBuf {
    shard_path(&folder.path().join("m"), no, 3)
}

#[test]
fn a_split_reads_as_the_whole_file() {
    let (folder, first) = split();
    let whole = folder.path().join("whole.gguf");
    let mut metadata = keys(0, 1, 3);
    [SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS].iter().for_each(|key| drop(metadata.remove(key)));
    write(&whole, &metadata, &TENSORS);
    let whole = GgufFile::open(&whole).expect("valid");
    for opened in [GgufFile::open(&first), GgufFile::read(&first, 1 << 20)] {
        let opened = opened.expect("valid");
        assert_eq!((opened.gguf.shards(), whole.gguf.shards()), (3, 1));
        assert_eq!(opened.gguf.metadata(), whole.gguf.metadata());
        assert_eq!(opened.content_digest().unwrap(), whole.content_digest().unwrap());
        for (name, row) in TENSORS {
            let tensor = opened.gguf.tensor(name).expect("declared");
            assert_eq!(opened.bytes(tensor).unwrap().bytes(), bytemuck::cast_slice::<f32, u8>(&row));
        }
    }
    let total: u64 = (0..3).map(|no| std::fs::metadata(shard(&folder, no)).expect("there").len()).sum();
    assert!(GgufFile::read(&first, total).is_ok() && GgufFile::read(&first, total - 1).is_err());
}

#[test]
fn one_shard_alone_is_a_whole_file() {
    let (folder, _) = split();
    let path = folder.path().join("any-name.gguf");
    write(&path, &keys(0, 1, 3), &TENSORS);
    assert_eq!(GgufFile::open(&path).expect("valid").gguf.tensors().len(), 3);
}

/// Opening must fail and say all of `named`.
#[track_caller]
fn refused(path: &Path, named: &[&str]) {
    let mut message = GgufFile::open(path).expect_err("must be refused").to_string();
    message.push_str(&GgufFile::read(path, 1 << 20).expect_err("must be refused").to_string());
    for part in named {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn case_22_shards_that_are_missing_or_out_of_place() {
    let (folder, first) = split();
    refused(&shard(&folder, 1), &["split.no", "give the first shard", "m-00001-of-00003.gguf"]);
    let renamed = folder.path().join("model.gguf");
    std::fs::copy(&first, &renamed).expect("copied");
    refused(&renamed, &["split.count", "<name>-00001-of-00003.gguf"]);
    // The second under the third's name, and the other way round.
    let swap = folder.path().join("swap");
    std::fs::rename(shard(&folder, 1), &swap).expect("renamed");
    refused(&first, &["m-00002-of-00003.gguf is missing"]);
    std::fs::rename(shard(&folder, 2), shard(&folder, 1)).expect("renamed");
    std::fs::rename(&swap, shard(&folder, 2)).expect("renamed");
    refused(&first, &["m-00002-of-00003.gguf", "split.no", "is 2"]);
    std::fs::remove_file(shard(&folder, 1)).expect("removed");
    std::fs::create_dir(shard(&folder, 1)).expect("made");
    refused(&first, &["m-00002-of-00003.gguf"]);
}

#[test]
fn case_22_shards_that_do_not_belong_together() {
    let change = |no: u16, metadata: Metadata, tensors: &[(&str, [f32; 4])], named: &[&str]| {
        let (folder, first) = split();
        write(&shard(&folder, no), &metadata, tensors);
        refused(&first, named);
    };
    let other = |key: &str, value: &str| {
        let mut metadata = keys(1, 3, 3);
        metadata.set(key, value);
        metadata
    };
    change(1, keys(1, 4, 3), &[TENSORS[1]], &["m-00002", "split.count", "is 4"]);
    change(1, keys(1, 3, 9), &[TENSORS[1]], &["m-00002", "split.tensors.count", "another model"]);
    change(1, other("general.architecture", "qwen2"), &[TENSORS[1]], &["general.architecture", "qwen2", "llama"]);
    change(1, keys(1, 3, 3), &[TENSORS[0]], &["tensor a", "two shards"]);
    change(1, keys(1, 3, 3), &[TENSORS[1], ("d", [0.0; 4])], &["split.tensors.count", "hold 4"]);
    change(1, Metadata::new(), &[TENSORS[1]], &["m-00002", "split.no", "missing"]);
    change(0, keys(0, 3, -1), &[TENSORS[0]], &["split.tensors.count"]);
    change(0, keys(0, u16::MAX, 3), &[TENSORS[0]], &["split.count", "65535"]);
    let mut typed = keys(0, 3, 3);
    typed.set(SPLIT_COUNT, "three");
    change(0, typed, &[TENSORS[0]], &["split.count"]);
}

#[test]
fn case_22_a_damaged_shard_is_named() {
    let (folder, first) = split();
    for no in 0..3 {
        let bytes = std::fs::read(shard(&folder, no)).expect("there");
        for length in 0..bytes.len() {
            std::fs::write(shard(&folder, no), &bytes[..length]).expect("written");
            refused(&first, &[&format!("m-{:05}-of-00003.gguf", no + 1)]);
        }
        std::fs::write(shard(&folder, no), &bytes).expect("written");
    }
    assert!(GgufFile::open(&first).is_ok());
}
