//! Files: opened only if regular, read within limits, replaced atomically, also over several runs ([`PartialFile`]).

pub mod disk;
mod mapped;
mod own;
mod partial;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

use self::disk::{DiskFile, sync_folder};
use self::own::{Lock, is_own, same_file};
pub use mapped::{Mapped, on_cut};
pub use partial::{FinishedFile, LockedFile, PartialFile};

/// Turns an [`io::Error`] into an [`Error::Io`] about `path`, for `map_err`.
pub fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// Opens a regular file (through symbolic links). Directories, pipes and devices are refused without being opened, so
/// nothing can block or never end.
///
/// # Errors
/// [`Error::Io`].
pub fn open_regular(path: &Path) -> Result<File> {
    check_regular(&fs::metadata(path).map_err(io_error("open", path))?, "open", path)?;
    let file = disk::open(path).map_err(io_error("open", path))?;
    // Again on what was opened: the path may have been replaced in between.
    check_regular(&file.metadata().map_err(io_error("open", path))?, "open", path)?;
    Ok(file)
}

fn check_regular(metadata: &fs::Metadata, action: &'static str, path: &Path) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "it is a directory" } else { "it is not a regular file" };
    Err(io_error(action, path)(io::Error::new(io::ErrorKind::InvalidInput, what)))
}

/// Reads a whole regular file of at most `limit` bytes.
///
/// # Errors
/// [`Error::Io`]; [`Error::Limit`] for a longer file, also one that grows while it is read.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = open_regular(path)?;
    let size = file.metadata().map_err(io_error("read", path))?.len();
    let too_long = |value| Error::Limit { what: format!("size in bytes of {}", path.display()), value, limit };
    if size > limit {
        return Err(too_long(size));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    match bytes.len() as u64 {
        length if length > limit => Err(too_long(length)),
        _ => Ok(bytes),
    }
}

/// Whether a file that begins with `start` is what git keeps in place of a large file whose bytes are elsewhere: people
/// have them instead of weights after a clone without Git LFS.
pub fn is_lfs_pointer(start: &[u8]) -> bool {
    start.starts_with(b"version https://git-lfs.github.com/")
}

/// What tells a file from a later one under the same name, without reading it: name, length, time of change.
///
/// # Errors
/// [`Error::Io`].
pub fn identity(path: &Path) -> Result<String> {
    let found = fs::metadata(path).map_err(io_error("read", path))?;
    let changed = found.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    Ok(format!("{:?} {} {}\n", path.file_name(), found.len(), changed.map_or(0, |time| time.as_nanos())))
}

/// A file that appears at its path complete or not at all. It is written beside its final place; [`AtomicFile::commit`]
/// makes it durable and renames it. Dropped without a commit, it is removed, and a previous file stays as it was.
#[derive(Debug)]
pub struct AtomicFile {
    writer: BufWriter<DiskFile>,
    temporary: Temporary,
    /// Where it goes: `path` with symbolic links resolved.
    target: PathBuf,
    /// As the caller named it, for errors.
    path: PathBuf,
}

/// What temporary files are called: this, something random, and [`SUFFIX`].
const PREFIX: &str = ".loam-";
const SUFFIX: &str = ".tmp";

/// Whether `name` is that of a temporary file of [`AtomicFile`], which a process that was killed may have left.
pub fn is_temporary(name: &str) -> bool {
    name.len() > PREFIX.len() + SUFFIX.len() && name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// A temporary file. Dropped while it is live, it is removed.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    /// `None` once it has another name.
    live: Option<Live>,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.live.take().is_some() {
            // Nothing is left to tell an error to.
            let _ = disk::remove(&self.path);
        }
    }
}

/// Temporary files that exist now, for [`remove_temporaries`], and whether they are worth keeping.
static LIVE: Mutex<Vec<(PathBuf, bool)>> = Mutex::new(Vec::new());

/// Keeps a temporary file's path in [`LIVE`] while the file exists.
#[derive(Debug)]
struct Live(PathBuf);

impl Live {
    /// The file at `path` that `make` makes, not to be missed by who removes all.
    fn made<T>(path: &Path, make: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Self)> {
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        let made = make()?;
        live.push((path.to_owned(), false));
        Ok((made, Live(path.to_owned())))
    }

    /// Whether the file survives [`remove_temporaries`].
    fn keep(&self, keep: bool) {
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        live.iter_mut().filter(|(path, _)| *path == self.0).for_each(|(_, kept)| *kept = keep);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).retain(|(path, _)| *path != self.0);
    }
}

/// Removes the temporary files of all unfinished [`AtomicFile`]s, and those [`PartialFile`]s that hold nothing to
/// continue with: for programs that end on a signal, before they exit. Returns the files that were kept. From then
/// on who
/// wants a temporary file waits for the end of the process: none is made that would be left.
pub fn remove_temporaries() -> Vec<PathBuf> {
    let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    for (path, _) in live.iter().filter(|(_, keep)| !keep) {
        // It may have been renamed into place a moment ago.
        let _ = fs::remove_file(path);
    }
    let kept = live.iter().filter(|(_, keep)| *keep).map(|(path, _)| path.clone()).collect();
    std::mem::forget(live);
    kept
}

/// Where an output goes: `path` with a symbolic link resolved; and the permissions of the file that is there now, if it
/// is this user's: what another user allows is not for ours.
fn target_of(path: &Path) -> Result<(PathBuf, Option<fs::Permissions>)> {
    let target = match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => fs::canonicalize(path).map_err(io_error("write", path))?,
        _ => path.to_owned(),
    };
    match fs::metadata(&target) {
        Ok(previous) => {
            check_regular(&previous, "write", path)?;
            let permissions = is_own(&previous).then(|| previous.permissions());
            Ok((target, permissions))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((target, None)),
        Err(error) => Err(io_error("write", path)(error)),
    }
}

impl AtomicFile {
    /// Starts a file that will replace or become `path`. A symbolic link is followed: its target is replaced.
    ///
    /// # Errors
    /// [`Error::Io`], also if `path` exists and is no regular file.
    pub fn create(path: &Path) -> Result<AtomicFile> {
        let (target, permissions) = target_of(path)?;
        own::remove_leftovers(folder_of(&target));
        let make = |path: &Path| {
            let file = DiskFile::create(path, permissions.as_ref())?;
            // Another process that took it for a leftover has it, or has removed it: another name.
            let is_ours = Lock::of(file.file()) != Lock::Busy && same_file(file.file(), path);
            if is_ours { Ok(file) } else { Err(io::ErrorKind::AlreadyExists.into()) }
        };
        // Held while it is made, so that it is not missed by who removes all.
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        let made = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).make_in(folder_of(&target), make);
        let kept = made.and_then(|file| file.keep().map_err(|error| error.error));
        let (file, temporary) = kept.map_err(io_error("write", path))?;
        live.push((temporary.clone(), false));
        drop(live);
        let temporary = Temporary { live: Some(Live(temporary.clone())), path: temporary };
        let writer = BufWriter::with_capacity(1 << 20, file);
        Ok(AtomicFile { writer, temporary, target, path: path.to_owned() })
    }

    /// Where the bytes are until the commit. [`Write::flush`] first to read them back.
    pub fn temporary(&self) -> &Path {
        &self.temporary.path
    }

    /// Where it goes, as the caller named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes the file to the disk, renames it into place and flushes the folder.
    ///
    /// # Errors
    /// [`Error::Io`]. Only an error that says "sync the folder of" comes after the file is in place.
    pub fn commit(self) -> Result<()> {
        let AtomicFile { writer, mut temporary, target, path } = self;
        let file = writer.into_inner().map_err(|error| io_error("write", &path)(error.into_error()))?;
        file.sync().map_err(io_error("write", &path))?;
        // Open, and with that locked, until it has its name; other systems insist on a closed one.
        let open = cfg!(unix).then_some(file);
        disk::rename(&temporary.path, &target).map_err(io_error("replace", &path))?;
        drop(open);
        temporary.live = None;
        sync_folder(folder_of(&target)).map_err(io_error("sync the folder of", &path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Writes `path` atomically (see [`AtomicFile`]) with the bytes that `fill` writes; an error of `fill` leaves
/// everything as it was. Map its write errors with [`io_error`].
///
/// # Errors
/// What `fill` returns, and [`Error::Io`].
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    fill(&mut file)?;
    file.commit()
}

/// Puts a file that was written in pieces, and is complete, at `path`: flushed to the disk, then renamed, as
/// [`AtomicFile::commit`] does. Both paths must be on one file system. A symbolic link at `path` is replaced itself.
///
/// # Errors
/// [`Error::Io`]. Only an error that says "sync the folder of" comes after the file is in place.
pub fn put_in_place(written: &Path, path: &Path) -> Result<()> {
    // Windows flushes only files that are open for writing.
    let file = fs::OpenOptions::new().write(true).open(written).map_err(io_error("write", written))?;
    file.sync_all().map_err(io_error("write", written))?;
    drop(file);
    disk::rename(written, path).map_err(io_error("replace", path))?;
    sync_folder(folder_of(path)).map_err(io_error("sync the folder of", path))
}

/// Makes a folder in one that is there, durably.
///
/// # Errors
/// [`Error::Io`], also if it is there already.
pub fn create_folder(path: &Path) -> Result<()> {
    disk::create_folder(path).map_err(io_error("make the folder", path))?;
    sync_folder(folder_of(path)).map_err(io_error("sync the folder of", path))
}

/// Removes a file.
///
/// # Errors
/// [`Error::Io`].
pub fn remove(path: &Path) -> Result<()> {
    disk::remove(path).map_err(io_error("remove", path))
}

/// Names of what is in a folder, as far as they are UTF-8, in no order.
///
/// # Errors
/// [`Error::Io`].
pub fn list(folder: &Path) -> Result<Vec<String>> {
    disk::list(folder).map_err(io_error("list", folder))
}

/// Reads a regular file in pieces of up to `most` bytes and hands each to `take`.
///
/// # Errors
/// [`Error::Io`], and what `take` returns.
pub fn read_pieces<E: From<Error>>(
    path: &Path,
    most: usize,
    mut take: impl FnMut(&mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = open_regular(path)?;
    let mut bytes = Vec::new();
    while disk::read(&mut file, path, most, &mut bytes).map_err(io_error("read", path))? > 0 {
        take(&mut bytes)?;
        bytes.clear();
    }
    Ok(())
}

/// The folder that holds `path`.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
