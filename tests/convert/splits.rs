//! Split output: named and marked as llama-gguf-split does it, within the limit, equal to the whole file.

use std::path::Path;

use loam::file::disk::{Call, Verdict, watch};
use loam::gguf::{GgufFile, Value, shard_paths};
use loam_convert::{Error, Options, Summary, convert};
use loam_shaders::Format;

use super::folder::{micro, to};
use loam_tests::folder::Folder;

fn split(dir: &Path, out: &Path, bytes: u64) -> loam_convert::Result<Summary> {
    let options = Options { split_bytes: Some(bytes), ..Options::new(Format::Q8_0) };
    convert(dir, out, &options, &mut |_| ())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn shards_are_the_whole_file_in_pieces() {
    let out = tempfile::tempdir().unwrap();
    let whole = out.path().join("whole.gguf");
    to(Format::Q8_0, &micro(), &whole).unwrap();
    let whole = GgufFile::open(&whole).unwrap();
    for limit in [1, 130_000, 200_000, 320_000] {
        let dir = tempfile::tempdir().unwrap();
        let summary = split(&micro(), &dir.path().join("m.gguf"), limit).unwrap();
        let first = dir.path().join(format!("m-00001-of-{:05}.gguf", summary.files.len()));
        assert_eq!(summary.files, shard_paths(&first));
        assert_eq!(names(dir.path()).len(), summary.files.len());
        let model = GgufFile::open(&first).unwrap();
        assert_eq!(model.gguf.metadata(), whole.gguf.metadata());
        assert_eq!(model.content_digest().unwrap(), whole.content_digest().unwrap());
        let order = |file: &GgufFile| file.gguf.tensors().iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        assert_eq!(order(&model), order(&whole));
        let mut size = 0;
        for path in &summary.files {
            let length = std::fs::metadata(path).unwrap().len();
            let alone = loam::gguf::Gguf::parse(path, &std::fs::read(path).unwrap()).unwrap();
            assert!(length <= limit || alone.tensors().len() == 1, "{}: {length}", path.display());
            size += length;
        }
        assert_eq!(size, summary.bytes);
    }
}

/// The keys of llama-gguf-split, with its types.
#[test]
fn shards_say_which_one_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let files = split(&micro(), &dir.path().join("m.gguf"), 200_000).unwrap().files;
    for (no, path) in files.iter().enumerate() {
        let shard = loam::gguf::Gguf::parse(path, &std::fs::read(path).unwrap()).unwrap();
        assert_eq!(shard.metadata().get("split.no"), Some(&Value::U16(no as u16)));
        assert_eq!(shard.metadata().get("split.count"), Some(&Value::U16(files.len() as u16)));
        assert_eq!(shard.metadata().get("split.tensors.count"), Some(&Value::I32(38)));
        assert_eq!(shard.metadata().len() == 3, no > 0);
    }
}

#[test]
fn what_fits_is_not_split() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let summary = split(&micro(), &path, 1 << 40).unwrap();
    assert_eq!((summary.files, names(dir.path())), (vec![path], vec!["m.gguf".to_owned()]));
}

#[test]
fn a_set_is_complete_or_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let files = split(&micro(), &path, 200_000).unwrap().files;
    let before: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    // A weight that cannot be converted, in the last shard.
    let folder = Folder::micro();
    folder.change(|tensors| tensors.get_mut("model.layers.3.mlp.up_proj.weight").unwrap().2[..2].fill(0xff));
    assert!(matches!(split(folder.path(), &path, 200_000), Err(Error::Tensor { .. })));
    let after: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(before == after && names(dir.path()).len() == files.len());
    // The last one cannot be put in place: a folder is there. The others must not stay.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::create_dir(dir.path().join(files[1].file_name().unwrap())).unwrap();
    assert!(split(&micro(), &path, 200_000).is_err());
    assert_eq!(names(dir.path()).len(), 1);
}

/// Killed after the mark of a new set and before any number of renames: the new set is read; before it, the old one.
#[test]
fn a_kill_between_renames_leaves_a_whole_set() {
    let digest = |first: &Path| GgufFile::open(first).unwrap().content_digest().unwrap().to_owned();
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files = split(&micro(), &old.path().join("m.gguf"), 200_000).unwrap().files;
    let other = Folder::micro();
    other.change(|tensors| tensors.get_mut("model.layers.3.mlp.up_proj.weight").unwrap().2[..2].fill(0x3f));
    let others = split(other.path(), &new.path().join("m.gguf"), 200_000).unwrap().files;
    let (before, after) = (digest(&files[0]), digest(&others[0]));
    assert!(before != after && files.len() > 2);
    let name = |at: usize| files[at].file_name().unwrap().to_string_lossy().into_owned();
    for renamed in 0..=files.len() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: String| dir.path().join(name);
        for (index, file) in files.iter().enumerate() {
            std::fs::copy(file, at(name(index))).unwrap();
        }
        for (index, file) in others.iter().enumerate() {
            std::fs::copy(file, at(name(index) + ".loam-part")).unwrap();
        }
        let first = at(name(0));
        assert_eq!(digest(&first), before, "parts without a mark are of no set");
        std::fs::write(loam::gguf::set_mark(&first), "").unwrap();
        std::fs::remove_file(&first).unwrap();
        for index in (0..files.len()).rev().take(renamed) {
            std::fs::rename(at(name(index) + ".loam-part"), at(name(index))).unwrap();
        }
        assert_eq!(digest(&first), after, "{renamed} of {} renamed", files.len());
        let (_, weights) = loam_convert::source::Checkpoint::open_gguf(&first).unwrap();
        assert!(weights.names().count() > 30);
        // The next conversion ends the renames before it begins.
        split(other.path(), &at("m.gguf".into()), 200_000).unwrap();
        assert_eq!((digest(&first), names(dir.path()).len()), (after.clone(), files.len()));
    }
}

/// Any of the renames of a set over an older one fails: one of the two is there, and is read.
#[test]
fn a_rename_that_fails_leaves_a_whole_set() {
    let digest = |first: &Path| GgufFile::open(first).unwrap().content_digest().unwrap().to_owned();
    let other = Folder::micro();
    other.change(|tensors| tensors.get_mut("model.layers.3.mlp.up_proj.weight").unwrap().2[..2].fill(0x3f));
    for failing in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        let first = split(&micro(), &path, 200_000).unwrap().files[0].clone();
        let before = digest(&first);
        let mut renames = 0;
        let watched = watch(move |call| match call {
            Call::Rename(..) => {
                renames += 1;
                if renames == failing + 1 { Verdict::Fail(std::io::ErrorKind::Other.into()) } else { Verdict::Go }
            }
            _ => Verdict::Go,
        });
        assert!(split(other.path(), &path, 200_000).is_err());
        drop(watched);
        let found = digest(&first);
        assert_eq!(found == before, failing == 0, "the mark is the first rename");
        split(other.path(), &path, 200_000).unwrap();
        assert!(digest(&first) != before);
        assert!(names(dir.path()).iter().all(|name| name.ends_with(".gguf")), "{:?}", names(dir.path()));
    }
}

#[test]
fn shards_of_the_source_are_not_overwritten() {
    let folder = Folder::micro();
    let path = folder.file("m.gguf");
    let files = split(folder.path(), &path, 200_000).unwrap().files;
    let last = files.last().unwrap();
    std::fs::remove_file(last).unwrap();
    std::fs::hard_link(folder.file("model.safetensors"), last).unwrap();
    let bytes = std::fs::read(last).unwrap();
    let _ = split(folder.path(), &path, 200_000);
    assert!(std::fs::read(folder.file("model.safetensors")).unwrap() == bytes);
}
