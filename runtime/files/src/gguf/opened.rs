//! Whether a file that was opened is still what it was: other programs may write to it while it is mapped.

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::Result;
use crate::file::io_error;

/// An open file, and what the system said of it when it was opened.
#[derive(Debug)]
pub(super) struct Opened {
    file: File,
    path: PathBuf,
    then: Stamp,
}

/// What has become of a file since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing.
    Same,
    /// Length and time of change are as they were, but something about the file is not: it may have another name, or
    /// other bytes under the old time.
    Touched,
    /// It was written to.
    Changed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// When anything about the file changed, its time of change included, which programs can set.
    touched: Option<(i64, i64)>,
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Stamp { length: found.len(), modified: found.modified().ok(), touched: touched(found) }
    }
}

#[cfg(unix)]
fn touched(found: &Metadata) -> Option<(i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    Some((found.ctime(), found.ctime_nsec()))
}

#[cfg(not(unix))]
fn touched(_: &Metadata) -> Option<(i64, i64)> {
    None
}

impl Opened {
    pub(super) fn new(file: File, path: &Path) -> Result<Opened> {
        let then = Stamp::of(&file.metadata().map_err(io_error("read", path))?);
        Ok(Opened { file, path: path.into(), then })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What has become of it. A file that was replaced by renaming another one is the same: the old one stays mapped.
    pub(super) fn since(&self) -> Result<Since> {
        let now = Stamp::of(&self.file.metadata().map_err(io_error("read", &self.path))?);
        Ok(match now {
            now if now == self.then => Since::Same,
            now if (now.length, now.modified) == (self.then.length, self.then.modified) => Since::Touched,
            _ => Since::Changed,
        })
    }
}
