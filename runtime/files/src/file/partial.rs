//! Files that take so long to write that a run of a program may end before they are complete: they grow under another
//! name beside their place, and a later run can continue with what is there.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::own::{Lock, open_own, same_file};
use super::{LIVE, Live, disk, folder_of, io_error, sync_folder, target_of};
use crate::error::Result;

/// Bytes that are written at a time.
const BUFFER: usize = 1 << 20;

/// `path` with `suffix` after its name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file that is written as `<path>.loam-part` until [`FinishedFile::commit`] renames it. Dropped before, it is
/// removed. A process that is killed leaves it, and the next [`PartialFile::open`] finds it. Two at once on the same
/// path would spoil each other's work: hold a [`LockedFile`].
#[derive(Debug)]
pub struct PartialFile {
    writer: BufWriter<File>,
    finished: FinishedFile,
}

/// A complete [`PartialFile`], closed and safe on the disk, that is not in place yet. Dropped, it is removed.
#[derive(Debug)]
pub struct FinishedFile {
    part: PathBuf,
    /// Where it goes: `path` with symbolic links resolved.
    target: PathBuf,
    /// As the caller named it, for errors.
    path: PathBuf,
    /// `None` once it is in place.
    live: Option<Live>,
}

impl PartialFile {
    /// Where the part of `path` is, if there is one.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), also if `path` exists and is no regular file.
    pub fn part_of(path: &Path) -> Result<PathBuf> {
        Ok(with_suffix(&target_of(path)?.0, ".loam-part"))
    }

    /// Opens or makes the part of `path` and keeps its first `length` bytes; writing continues after them.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), also if `path` exists and is no regular file.
    pub fn open(path: &Path, length: u64) -> Result<PartialFile> {
        let (target, permissions) = target_of(path)?;
        let part = with_suffix(&target, ".loam-part");
        let (mut file, live) = Live::made(&part, || open_own(&part)).map_err(io_error("write", path))?;
        let finished = FinishedFile { part, target, path: path.to_owned(), live: Some(live) };
        let cut = file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length)));
        cut.map_err(io_error("write", path))?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions).map_err(io_error("write", path))?;
        }
        Ok(PartialFile { writer: BufWriter::with_capacity(BUFFER, file), finished })
    }

    /// Makes everything written so far durable, and from now on worth keeping when a signal ends the program.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn sync(&mut self) -> Result<()> {
        let synced = self.writer.flush().and_then(|()| self.writer.get_ref().sync_data());
        synced.map_err(io_error("write", &self.finished.path))?;
        self.finished.keep();
        Ok(())
    }

    /// Makes everything durable and closes the file.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn finish(self) -> Result<FinishedFile> {
        let PartialFile { writer, finished } = self;
        let file = writer.into_inner().map_err(|error| io_error("write", &finished.path)(error.into_error()))?;
        file.sync_all().map_err(io_error("write", &finished.path))?;
        Ok(finished)
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Through the buffer: bytes of a mapped file that was cut short are found by reading them here, which is told
        // as what it is, and not by the system, which calls it a bad address.
        self.writer.write(&bytes[..bytes.len().min(BUFFER / 2)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl FinishedFile {
    /// Where the bytes are.
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// Leaves the bytes where they are.
    pub fn leave(mut self) {
        self.live = None;
    }

    /// From now on worth keeping when a signal ends the program.
    pub fn keep(&self) {
        self.live.iter().for_each(|live| live.keep(true));
    }

    /// Renames the file into place and flushes the folder.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io). Only an error that says "sync the folder of" comes after the file is in place.
    pub fn commit(mut self) -> Result<()> {
        self.put()
    }

    /// As [`FinishedFile::commit`]; after an error it may be put again, or left.
    ///
    /// # Errors
    /// As [`FinishedFile::commit`].
    pub fn put(&mut self) -> Result<()> {
        disk::rename(&self.part, &self.target).map_err(io_error("replace", &self.path))?;
        self.live = None;
        sync_folder(folder_of(&self.target)).map_err(io_error("sync the folder of", &self.path))
    }
}

impl Drop for FinishedFile {
    fn drop(&mut self) {
        if self.live.take().is_some() {
            // Nothing is left to tell an error to; the next run makes use of the file or overwrites it.
            let _ = disk::remove(&self.part);
        }
    }
}

/// A small file beside an output that one process at a time can hold. Dropped, it is removed.
#[derive(Debug)]
pub struct LockedFile {
    file: File,
    path: PathBuf,
    live: Live,
}

impl LockedFile {
    /// Opens or makes `<path>` + `suffix` and locks it until it is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), with [`io::ErrorKind::ResourceBusy`] if another process holds it.
    pub fn open(path: &Path, suffix: &str) -> Result<LockedFile> {
        let own = with_suffix(&target_of(path)?.0, suffix);
        loop {
            // Held while it is made, so that it is not missed by who removes all.
            let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
            let file = open_own(&own).map_err(io_error("write", path))?;
            // File systems without locks: two at once are the user's mistake, not ours to find.
            if Lock::of(&file) == Lock::Busy {
                let problem = "another process is writing it at this moment";
                return Err(io_error("write", path)(io::Error::new(io::ErrorKind::ResourceBusy, problem)));
            }
            // The process that held it may have removed it in between: then the lock is on a file that has no name.
            if same_file(&file, &own) {
                live.push((own.clone(), false));
                return Ok(LockedFile { file, live: Live(own.clone()), path: own });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Whether the file is worth keeping when a signal ends the program; at first it is not.
    pub fn keep(&self, keep: bool) {
        self.live.keep(keep);
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Nothing is left to tell an error to; the next run overwrites the file.
        let _ = disk::remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_part_is_kept_by_a_kill_removed_by_a_drop_and_renamed_by_a_commit() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("out");
        let mut first = PartialFile::open(&path, 0).expect("opened");
        first.write_all(b"kept, and cut").and_then(|()| first.flush()).expect("written");
        let part = PartialFile::part_of(&path).expect("named");
        // As a kill: nothing runs any more.
        std::mem::forget(first);
        let mut second = PartialFile::open(&path, 4).expect("opened");
        second.write_all(b" and more").expect("written");
        second.sync().expect("synced");
        assert!(!path.exists());
        let finished = second.finish().expect("finished");
        assert_eq!(fs::read(finished.part()).expect("readable"), b"kept and more");
        finished.commit().expect("committed");
        assert_eq!((fs::read(&path).expect("readable").as_slice(), part.exists()), (&b"kept and more"[..], false));
        drop(PartialFile::open(&path, 0).expect("opened"));
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
    }

    #[test]
    fn a_lock_is_held_once() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("out");
        let held = LockedFile::open(&path, ".lock").expect("free");
        let crate::Error::Io { source, .. } = LockedFile::open(&path, ".lock").expect_err("held") else { panic!() };
        assert_eq!(source.kind(), io::ErrorKind::ResourceBusy);
        drop(held);
        drop(LockedFile::open(&path, ".lock").expect("free again"));
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn links_under_our_names_are_not_followed() {
        let folder = tempfile::tempdir().expect("temp dir");
        let (path, other) = (folder.path().join("out"), folder.path().join("other"));
        fs::write(&other, b"precious").expect("written");
        std::os::unix::fs::symlink(&other, folder.path().join("out.loam-part")).expect("linked");
        assert!(PartialFile::open(&path, 0).is_err());
        assert_eq!(fs::read(&other).expect("readable"), b"precious");
    }
}
