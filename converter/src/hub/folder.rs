//! The folder that is pulled into, and what loam keeps in its `.loam-pull`: a lock, unfinished files, a record.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use loam_files::digest::sha256_hex;
use loam_files::file::{io_error, read_bounded, write_atomic};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Largest record that is read.
const MAX_RECORD: u64 = 64 << 20;

/// A folder that is locked for one pull. The lock goes with the process, however it ends.
#[derive(Debug)]
pub struct Folder {
    /// Where the files go.
    pub path: PathBuf,
    state: PathBuf,
    _lock: File,
}

/// What was pulled last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The repository.
    pub repo: String,
    /// The commit.
    pub commit: String,
    /// Digest of each file in the folder that came from there.
    pub files: BTreeMap<String, String>,
}

/// What an unfinished file is a part of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Begun {
    /// The commit that it belongs to.
    pub commit: String,
    /// Digest of the whole file, as far as known.
    pub digest: Option<String>,
    /// Size of the whole file, as far as known.
    pub bytes: Option<u64>,
    /// Entity tag of the server that sent it, for `If-Range`.
    pub etag: Option<String>,
}

impl Folder {
    /// Makes the folder if it is not there and locks it.
    ///
    /// # Errors
    /// [`Error::Busy`] if another pull works in it; I/O errors.
    pub fn open(path: &Path) -> Result<Folder> {
        let state = path.join(".loam-pull");
        fs::create_dir_all(&state).map_err(io_error("make the folder", &state))?;
        let lock_path = state.join("lock");
        let lock = File::create(&lock_path).map_err(io_error("write", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { path: path.to_owned(), state, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(io_error("lock", &lock_path)(error).into()),
        }
    }

    /// Where the checked file `name` goes; its folder is made.
    ///
    /// # Errors
    /// I/O errors.
    pub fn target(&self, name: &str) -> Result<PathBuf> {
        let target = self.path.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(io_error("make the folder", parent))?;
        }
        Ok(target)
    }

    /// Where the unfinished file `name` is, with `ending`: names of the server are not used here.
    pub fn unfinished(&self, name: &str, ending: &str) -> PathBuf {
        self.state.join(format!("{}.{ending}", &sha256_hex(name.as_bytes())[..32]))
    }

    /// What was pulled last; nothing if there is no readable record.
    pub fn record(&self) -> Record {
        load(&self.state.join("pulled.json")).unwrap_or_default()
    }

    /// Keeps the record.
    ///
    /// # Errors
    /// I/O errors.
    pub fn set_record(&self, record: &Record) -> Result<()> {
        save(&self.state.join("pulled.json"), record)
    }

    /// Fails if the disk has no `bytes` left.
    ///
    /// # Errors
    /// [`std::io::ErrorKind::StorageFull`] with the numbers.
    pub fn need_space(&self, bytes: u64) -> Result<()> {
        match free_space(&self.path) {
            Some(free) if free < bytes => {
                let message = format!("{bytes} bytes are needed, {free} are free");
                let full = std::io::Error::new(std::io::ErrorKind::StorageFull, message);
                Err(io_error("write to", &self.path)(full).into())
            }
            _ => Ok(()),
        }
    }
}

/// Reads a small JSON file of loam's own; `None` if it is missing or damaged: then the work starts afresh.
pub fn load<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&read_bounded(path, MAX_RECORD).ok()?).ok()
}

/// Writes a small JSON file.
///
/// # Errors
/// I/O errors.
pub fn save<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).map_err(|error| io_error("write", path)(error.into()))?;
    Ok(write_atomic(path, |out| out.write_all(&json).map_err(io_error("write", path)))?)
}

#[cfg(unix)]
fn free_space(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    // Some network and virtual file systems report nothing at all.
    let known = disk.f_blocks > 0;
    known.then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_space(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pull_at_a_time() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let first = Folder::open(dir.path()).expect("free");
        assert!(matches!(Folder::open(dir.path()), Err(Error::Busy { .. })));
        drop(first);
        assert!(Folder::open(dir.path()).is_ok());
    }

    #[test]
    fn a_damaged_record_is_no_record_and_space_is_checked() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(dir.path()).expect("free");
        let record = Record { repo: "a/b".into(), commit: "c".into(), files: [("x".into(), "y".into())].into() };
        folder.set_record(&record).expect("written");
        assert_eq!(folder.record(), record);
        std::fs::write(dir.path().join(".loam-pull/pulled.json"), "{").expect("written");
        assert_eq!(folder.record(), Record::default());
        assert!(folder.need_space(1).is_ok());
        if cfg!(unix) {
            let full = folder.need_space(u64::MAX).expect_err("no disk is that large");
            assert!(std::error::Error::source(&full).is_some_and(|e| e.to_string().contains("free")));
        }
    }
}
