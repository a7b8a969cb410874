//! Files that are this user's: opened without following links, used only if no other user could have made them, and
//! told from those that a process which has ended left.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{disk, is_temporary};

/// Opens `path` for reading and writing, or makes it. What is there must be a regular file of this user with no other
/// name: in a folder that others can write to, what has our name need not be ours.
pub(super) fn open_own(path: &Path) -> io::Result<File> {
    disk::ask(&disk::Call::Create(path))?;
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    follow_no_link(&mut options);
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
        Ok(_) => {
            let file = options.open(path)?;
            check_own(&file, path)?;
            Ok(file)
        }
        Err(_) => options.create_new(true).open(path),
    }
}

/// Fails if the open file at `path` is another user's, or has another name that a user could have given it.
#[cfg(unix)]
fn check_own(file: &File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata()?;
    let refused = |problem: &str| {
        let message = format!("{} is there and {problem}; remove it, or write to another folder", path.display());
        Err(io::Error::new(ErrorKind::PermissionDenied, message))
    };
    match () {
        () if !found.is_file() => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
        () if !is_own(&found) => refused("belongs to another user"),
        () if found.nlink() > 1 => refused("has another name"),
        () => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_own(file: &File, _: &Path) -> io::Result<()> {
    let is_file = file.metadata()?.is_file();
    if is_file { Ok(()) } else { Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")) }
}

/// Whether a file is of the user that this process acts for.
#[cfg(unix)]
pub(super) fn is_own(found: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    // SAFETY: returns a number of the process, and cannot fail.
    found.uid() == unsafe { libc::geteuid() }
}

/// Whether a file is of the user that this process acts for, as far as that is known.
#[cfg(not(unix))]
pub(super) fn is_own(_: &fs::Metadata) -> bool {
    true
}

#[cfg(unix)]
fn follow_no_link(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(libc::O_NOFOLLOW);
}

#[cfg(not(unix))]
fn follow_no_link(_: &mut OpenOptions) {}

/// What became of an attempt to lock a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// It is ours.
    Held,
    /// Another process has it.
    Busy,
    /// The file system has no locks, or does not give them (NFS without its lock service).
    Missing,
}

impl Lock {
    /// Locks `file` until it is closed or the process ends, however it ends.
    pub(super) fn of(file: &File) -> Lock {
        Lock::after(file.try_lock())
    }

    fn after(tried: Result<(), TryLockError>) -> Lock {
        match tried {
            Ok(()) => Lock::Held,
            Err(TryLockError::WouldBlock) => Lock::Busy,
            Err(TryLockError::Error(_)) => Lock::Missing,
        }
    }
}

/// Whether the open `file` is the one that has the name `path`.
#[cfg(unix)]
pub(super) fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

#[cfg(not(unix))]
pub(super) fn same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Removes temporary files of this user in `folder` whose process has ended without removing them, once per process and
/// folder. A file that is written is locked; without locks nothing is known, and nothing is removed.
pub(super) fn remove_leftovers(folder: &Path) {
    static SEEN: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !seen.get_or_insert_default().insert(folder.to_owned()) {
        return;
    }
    // A folder that cannot be listed may still be one that can be written to.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_temporary(name)).for_each(|name| remove_if_left(&folder.join(name)));
}

fn remove_if_left(path: &Path) {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    follow_no_link(&mut options);
    let is_ours = fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && is_own(&found));
    let Some(file) = is_ours.then(|| options.open(path).ok()).flatten() else { return };
    if Lock::of(&file) == Lock::Held && same_file(&file, path) {
        // Whether it is gone or not, the work at hand does not depend on it.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::super::list;
    use super::*;

    #[test]
    fn a_file_system_without_locks_is_no_reason_to_refuse() {
        let errors = [37, 95, 22, 13].map(|code| TryLockError::Error(io::Error::from_raw_os_error(code)));
        assert!(errors.into_iter().all(|error| Lock::after(Err(error)) == Lock::Missing));
        assert_eq!(Lock::after(Err(TryLockError::WouldBlock)), Lock::Busy);
    }

    #[cfg(unix)]
    #[test]
    fn what_others_could_have_made_is_not_taken_over() {
        let folder = tempfile::tempdir().expect("temp dir");
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        drop(open_own(&own).expect("made"));
        drop(open_own(&own).expect("opened"));
        fs::hard_link(&own, &other).expect("linked");
        assert_eq!(open_own(&own).expect_err("two names").kind(), ErrorKind::PermissionDenied);
        fs::remove_file(&own).expect("removed");
        std::os::unix::fs::symlink(&other, &own).expect("linked");
        assert!(open_own(&own).is_err());
        fs::remove_file(&own).expect("removed");
        fs::write(&own, "another's").expect("written");
        // Only root can give a file away.
        if std::os::unix::fs::chown(&own, Some(54_321), None).is_ok() {
            let error = open_own(&own).expect_err("another user's");
            assert!(
                error.kind() == ErrorKind::PermissionDenied && error.to_string().contains("another user"),
                "{error}"
            );
            assert_eq!(fs::read(&own).expect("readable"), b"another's");
        }
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_written_stays() {
        let folder = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| folder.path().join(name);
        fs::write(at(".loam-left.tmp"), "half").expect("written");
        fs::write(at(".loam-note"), "mine").expect("written");
        let mut live = super::super::AtomicFile::create(&at("out")).expect("created");
        io::Write::write_all(&mut live, b"whole").expect("written");
        remove_leftovers(folder.path());
        remove_if_left(live.temporary());
        assert!(!at(".loam-left.tmp").exists() && at(".loam-note").exists() && live.temporary().exists());
        live.commit().expect("committed");
        let mut names = list(folder.path()).expect("readable");
        names.sort();
        assert_eq!(names, [".loam-note", "out"]);
    }
}
