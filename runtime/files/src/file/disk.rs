//! The system calls of checkpoints and outputs that are replaced as a whole, one function each. A test can watch
//! them, make any of them fail, and so find out what a full disk, a broken one or a kill would leave.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// What is about to be done.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// Make a folder.
    CreateFolder(&'a Path),
    /// Make an empty file.
    Create(&'a Path),
    /// Append bytes to a file.
    Write(&'a Path, &'a [u8]),
    /// Make a file's bytes durable.
    Sync(&'a Path),
    /// Give a file another name; what had that name is gone.
    Rename(&'a Path, &'a Path),
    /// Make what has happened to the names in a folder durable.
    SyncFolder(&'a Path),
    /// Remove a file.
    Remove(&'a Path),
    /// Open a file for reading.
    Open(&'a Path),
    /// Read from it.
    Read(&'a Path),
    /// List a folder.
    List(&'a Path),
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Verdict {
    /// It is done.
    Go,
    /// It fails and does nothing.
    Fail(io::Error),
    /// A write takes only this many of the bytes, as systems may at any time. Other calls are done.
    Short(usize),
}

/// Decides on calls.
type Watcher = Box<dyn FnMut(&Call<'_>) -> Verdict>;

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

/// While this lives, the calls of the thread that made it are watched.
#[derive(Debug)]
pub struct Watched(PhantomData<*const ()>);

/// Asks `watcher` before each call of this thread, for tests of crash safety. There is one watcher at a time.
#[must_use]
pub fn watch(watcher: impl FnMut(&Call<'_>) -> Verdict + 'static) -> Watched {
    WATCHER.with(|slot| *slot.borrow_mut() = Some(Box::new(watcher)));
    Watched(PhantomData)
}

impl Drop for Watched {
    fn drop(&mut self) {
        WATCHER.with(|slot| *slot.borrow_mut() = None);
    }
}

/// How many bytes a write may take; for other calls only whether it may be done.
pub(super) fn ask(call: &Call<'_>) -> io::Result<usize> {
    let verdict = WATCHER.with(|slot| slot.borrow_mut().as_mut().map_or(Verdict::Go, |watcher| watcher(call)));
    match verdict {
        Verdict::Go => Ok(usize::MAX),
        Verdict::Short(bytes) => Ok(bytes),
        Verdict::Fail(error) => Err(error),
    }
}

/// An open file that is written.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    path: PathBuf,
}

impl DiskFile {
    /// Makes a file that is not there yet, with `permissions` or those of a new file.
    pub(super) fn create(path: &Path, permissions: Option<&fs::Permissions>) -> io::Result<Self> {
        ask(&Call::Create(path))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        set_permissions(&mut options, permissions);
        Ok(Self { file: options.open(path)?, path: path.to_owned() })
    }

    /// The file itself.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes the bytes durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        ask(&Call::Sync(&self.path))?;
        self.file.sync_all()
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = ask(&Call::Write(&self.path, bytes))?;
        self.file.write(&bytes[..bytes.len().min(most)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// As a newly created file has them (the process's umask is applied), or those of a previous file.
#[cfg(unix)]
fn set_permissions(options: &mut OpenOptions, previous: Option<&fs::Permissions>) {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    options.mode(previous.map_or(0o666, PermissionsExt::mode));
}

#[cfg(not(unix))]
fn set_permissions(_: &mut OpenOptions, _: Option<&fs::Permissions>) {}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    ask(&Call::Rename(from, to))?;
    fs::rename(from, to)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    ask(&Call::Remove(path))?;
    fs::remove_file(path)
}

pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    ask(&Call::CreateFolder(path))?;
    fs::create_dir(path)
}

pub(super) fn open(path: &Path) -> io::Result<File> {
    ask(&Call::Open(path))?;
    File::open(path)
}

/// Reads up to `most` bytes after what was read before; fewer only at the end.
pub(super) fn read(file: &mut File, path: &Path, most: usize, bytes: &mut Vec<u8>) -> io::Result<usize> {
    ask(&Call::Read(path))?;
    file.take(most as u64).read_to_end(bytes)
}

/// Names of what is in a folder, as far as they are UTF-8.
pub(super) fn list(folder: &Path) -> io::Result<Vec<String>> {
    ask(&Call::List(folder))?;
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_str().map(str::to_owned)));
    names.filter_map(io::Result::transpose).collect()
}

/// Makes a rename durable. File systems that cannot flush folders say so, which is no failure.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    ask(&Call::SyncFolder(folder))?;
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

#[cfg(not(unix))]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    ask(&Call::SyncFolder(folder)).map(|_| ())
}
