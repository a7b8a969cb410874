//! Files as the system gives them: cases 18 and 23 of the hostile-input list, and digests.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use loam::file;
use loam::gguf::{GgmlType, GgufFile, Metadata, TensorDeclaration, Writer};
use loam_files::Error;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Writes a file with the tensors `(name, weights)` in F32 rows of 4.
fn write(path: &Path, metadata: &Metadata, tensors: &[(&str, &[f32])]) -> loam_files::Result<()> {
    let declare = |(name, weights): &(&str, &[f32])| TensorDeclaration {
        name: name.to_string(),
        shape: vec![4, weights.len() as u64 / 4],
        ty: GgmlType::F32,
    };
    let declarations: Vec<_> = tensors.iter().map(declare).collect();
    file::write_atomic(path, |out| {
        let mut writer = Writer::new(out, path, metadata, &declarations)?;
        tensors.iter().try_for_each(|(name, weights)| writer.write(name, bytemuck::cast_slice(weights)))?;
        writer.finish().map(|_| ())
    })
}

const A: [f32; 8] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
const B: [f32; 4] = [-1.0, 0.5, 0.25, 0.0];

fn sample(folder: &TempDir, name: &str, tensors: &[(&str, &[f32])]) -> PathBuf {
    let path = folder.path().join(name);
    write(&path, &Metadata::new(), tensors).expect("written");
    path
}

#[test]
fn tensor_bytes_are_those_of_the_file() {
    let folder = folder();
    let path = sample(&folder, "m.gguf", &[("a", &A), ("b", &B)]);
    for opened in [GgufFile::open(&path), GgufFile::read(&path, 1 << 20)] {
        let opened = opened.expect("valid");
        let a = opened.gguf.tensor("a").expect("declared");
        assert_eq!((a.cols(), a.rows()), (4, 2));
        assert_eq!(opened.bytes(a).unwrap().bytes(), bytemuck::cast_slice::<f32, u8>(&A));
        assert_eq!(opened.tensor_digest(a).unwrap(), loam::digest::sha256_hex(bytemuck::cast_slice(&A)));
    }
}

#[test]
fn the_content_digest_depends_on_tensors_alone() {
    let folder = folder();
    let digest = |path: &Path| GgufFile::open(path).expect("valid").content_digest().unwrap().to_owned();
    let first = digest(&sample(&folder, "1.gguf", &[("a", &A), ("b", &B)]));
    assert_eq!(first.len(), 64);
    let reordered = sample(&folder, "2.gguf", &[("b", &B), ("a", &A)]);
    assert_eq!(first, digest(&reordered));
    let mut metadata = Metadata::new();
    metadata.set("general.name", "another");
    metadata.set("general.alignment", 64u32);
    let renamed = folder.path().join("3.gguf");
    write(&renamed, &metadata, &[("a", &A), ("b", &B)]).expect("written");
    assert_eq!(first, digest(&renamed));

    let mut changed = A;
    changed[7] += 1.0;
    let different: [&[(&str, &[f32])]; 4] =
        [&[("a", &changed), ("b", &B)], &[("a", &A), ("c", &B)], &[("a", &A)], &[("a", &A[..4]), ("b", &B)]];
    for tensors in different {
        assert_ne!(first, digest(&sample(&folder, "4.gguf", tensors)));
    }
}

#[test]
fn case_18_replaced_or_cut_while_open() {
    let folder = folder();
    let path = sample(&folder, "m.gguf", &[("a", &A)]);
    // loam replaces files by renaming: the map keeps the old one.
    let mapped = GgufFile::open(&path).expect("valid");
    let tensor = mapped.gguf.tensor("a").expect("declared").clone();
    sample(&folder, "m.gguf", &[("a", &[9.0; 8])]);
    assert_eq!(mapped.bytes(&tensor).unwrap().bytes(), bytemuck::cast_slice::<f32, u8>(&A));
    // In memory, cutting the file changes nothing.
    let read = GgufFile::read(&path, 1 << 20).expect("valid");
    fs::OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(10)).expect("cut");
    assert_eq!(read.bytes(&tensor).unwrap().bytes(), bytemuck::cast_slice::<f32, u8>(&[9.0f32; 8]));
    assert!(matches!(GgufFile::open(&path), Err(Error::Gguf { .. })));
}

/// Opening `path` both ways must end soon, with an I/O error that names it.
fn refused(path: &Path) {
    let (send, receive) = mpsc::channel();
    let target = path.to_owned();
    std::thread::spawn(move || {
        let results = [GgufFile::open(&target), GgufFile::read(&target, 1 << 20)];
        let _ = send.send(results.map(|result| result.map(|_| ())));
    });
    let results = receive.recv_timeout(Duration::from_secs(10)).expect("opening must not hang");
    for result in results {
        match result {
            Err(Error::Io { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{}: {other:?}", path.display()),
        }
    }
}

#[test]
fn case_23_what_is_no_file() {
    let folder = folder();
    refused(folder.path());
    refused(&folder.path().join("absent.gguf"));
}

#[cfg(unix)]
#[test]
fn case_23_pipes_devices_links_and_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = folder();
    for device in ["/dev/zero", "/dev/null", "/dev/full"] {
        if Path::new(device).exists() {
            refused(Path::new(device));
        }
    }
    let pipe = folder.path().join("pipe");
    if std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
        refused(&pipe);
    }
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    symlink(&one, &two).and_then(|()| symlink(&two, &one)).expect("links");
    refused(&one);

    let path = sample(&folder, "m.gguf", &[("a", &A)]);
    let link = folder.path().join("link");
    symlink(&path, &link).expect("a link");
    assert!(GgufFile::open(&link).is_ok());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("own file");
    // An administrator may read everything.
    if fs::File::open(&path).is_err() {
        refused(&path);
    }
}

#[test]
fn an_empty_file_is_truncated_and_a_long_one_over_the_limit() {
    let folder = folder();
    let path = folder.path().join("m.gguf");
    fs::write(&path, b"").expect("written");
    for result in [GgufFile::open(&path), GgufFile::read(&path, 10)] {
        assert!(result.expect_err("empty").to_string().contains("the file is truncated"));
    }
    fs::write(&path, [0; 11]).expect("written");
    assert!(matches!(GgufFile::read(&path, 10), Err(Error::Limit { value: 11, limit: 10, .. })));
}

/// A file that is read by ranges out of `bytes`; the ranges that were asked for are noted in `asked`.
fn by_ranges(bytes: Vec<u8>, asked: Arc<Mutex<Vec<Range<u64>>>>) -> loam_files::Result<GgufFile> {
    let length = bytes.len() as u64;
    let read = move |range: Range<u64>| {
        asked.lock().expect("no panic").push(range.clone());
        Ok(bytes[range.start as usize..range.end as usize].to_vec())
    };
    GgufFile::from_ranges(Path::new("ranges.gguf"), length, Arc::new(read))
}

#[test]
fn bytes_in_memory_and_ranges_are_the_file() {
    let folder = folder();
    let path = folder.path().join("m.gguf");
    let mut metadata = Metadata::new();
    // More declarations than are read at first.
    metadata.set("long", "x".repeat(3 << 20));
    write(&path, &metadata, &[("a", &A), ("b", &B)]).expect("written");
    let bytes = fs::read(&path).expect("readable");
    let mapped = GgufFile::open(&path).expect("valid");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let held = GgufFile::from_bytes(Path::new("memory.gguf"), bytes.clone()).expect("valid");
    let ranges = by_ranges(bytes.clone(), asked.clone()).expect("valid");
    let first: Vec<_> = asked.lock().expect("no panic").drain(..).collect();
    assert!(first.len() == 3 && first.iter().all(|range| range.start == 0), "1, 2 and 4 MiB at most: {first:?}");
    let b = ranges.gguf.tensor("b").expect("declared");
    for file in [&held, &ranges] {
        assert_eq!(file.gguf.metadata(), mapped.gguf.metadata());
        assert_eq!(file.bytes(b).expect("read").bytes(), bytemuck::cast_slice::<f32, u8>(&B));
        assert_eq!(file.content_digest().expect("read"), mapped.content_digest().expect("read"));
    }
    let tensors = asked.lock().expect("no panic");
    assert!(tensors.iter().all(|range| range.end - range.start <= 32), "one tensor at a time: {tensors:?}");
}

#[test]
fn ranges_that_cannot_be_read_are_errors_that_name_the_file() {
    let folder = folder();
    let bytes = fs::read(sample(&folder, "m.gguf", &[("a", &A)])).expect("readable");
    for cut in [0, 3, bytes.len() - 40] {
        let error = by_ranges(bytes[..cut].to_vec(), Arc::default()).unwrap_err();
        assert!(matches!(error, Error::Gguf { .. }), "{error}");
    }
    let length = bytes.len() as u64;
    let read = move |range: Range<u64>| match range.start {
        0 => Ok(bytes[..range.end as usize].to_vec()),
        _ => Err(std::io::Error::other("the network is gone")),
    };
    let file = GgufFile::from_ranges(Path::new("ranges.gguf"), length, Arc::new(read)).expect("declarations");
    let error = file.bytes(file.gguf.tensor("a").expect("declared")).map(drop).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path == Path::new("ranges.gguf")), "{error}");
    assert!(file.content_digest().is_err());
    // A reader that gives too few bytes.
    let short = GgufFile::from_ranges(Path::new("short.gguf"), length, Arc::new(|_| Ok(vec![0; 4])));
    assert!(matches!(short, Err(Error::Io { .. })));
}
