//! Replacing and refusing.

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn replaces_completely() {
    let folder = folder();
    let path = folder.path().join("out");
    for content in [&b"first, and longer"[..], b"second"] {
        write_atomic(&path, |out| out.write_all(content).map_err(io_error("write", &path))).expect("written");
        assert_eq!(fs::read(&path).expect("readable"), content);
    }
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn an_error_keeps_the_previous_file_and_leaves_nothing() {
    let folder = folder();
    let path = folder.path().join("out");
    fs::write(&path, b"previous").expect("written");
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let result = write_atomic(&path, |out| {
        out.write_all(&vec![1; 3 << 20]).map_err(io_error("write", &path))?;
        Err(io_error("write", &path)(full()))
    });
    assert_eq!(result.expect_err("full").to_string(), format!("cannot write {}", path.display()));
    assert_eq!(fs::read(&path).expect("readable"), b"previous");
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn a_dropped_file_is_removed_and_a_temporary_one_can_be_read_back() {
    let folder = folder();
    let path = folder.path().join("out");
    let mut file = AtomicFile::create(&path).expect("created");
    file.write_all(b"bytes").and_then(|()| file.flush()).expect("written");
    assert_eq!(fs::read(file.temporary()).expect("readable"), b"bytes");
    assert!(!path.exists());
    drop(file);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn targets_that_are_no_files_are_refused() {
    let folder = folder();
    let absent = folder.path().join("absent/out");
    for path in [folder.path(), &absent] {
        match write_atomic(path, |_| Ok(())) {
            Err(Error::Io { action: "write", path: named, .. }) => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
    }
    assert!(names(folder.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn devices_stay_links_are_followed_permissions_are_kept() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    if let Ok(device) = fs::metadata("/dev/full") {
        assert!(device.file_type().is_char_device());
        assert!(write_atomic(Path::new("/dev/full"), |_| Ok(())).is_err());
        assert!(fs::metadata("/dev/full").is_ok_and(|now| now.file_type().is_char_device()));
    }
    let folder = folder();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::write(&target, b"old").and_then(|()| symlink(&target, &link)).expect("set up");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).expect("own file");
    write_atomic(&link, |out| out.write_all(b"new").map_err(io_error("write", &link))).expect("written");
    assert!(fs::symlink_metadata(&link).is_ok_and(|m| m.is_symlink()));
    assert_eq!(fs::read(&target).expect("readable"), b"new");
    assert_eq!(fs::metadata(&target).expect("there").permissions().mode() & 0o777, 0o640);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_names_the_file() {
    let path = Path::new("/dev/full");
    let Ok(mut device) = fs::OpenOptions::new().write(true).open(path) else { return };
    let error = device.write_all(b"x").map_err(io_error("write", path)).expect_err("full");
    let Error::Io { path: named, source, .. } = error else { panic!("not an I/O error") };
    assert_eq!((named.as_path(), source.kind()), (path, io::ErrorKind::StorageFull));
}

#[test]
fn bounded_reading() {
    let folder = folder();
    let path = folder.path().join("ten");
    fs::write(&path, [7; 10]).expect("written");
    assert_eq!(read_bounded(&path, 10).ok(), Some(vec![7; 10]));
    assert!(matches!(read_bounded(&path, 9), Err(Error::Limit { value: 10, limit: 9, .. })));
    assert!(matches!(read_bounded(folder.path(), 9), Err(Error::Io { action: "open", .. })));
}
