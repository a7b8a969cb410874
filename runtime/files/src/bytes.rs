//! Bytes of a file: shared while somebody uses them, or read when they are asked for.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::file::io_error;

/// Bytes in memory shared with the file they came from: the whole map stays alive while a weight uses it.
#[derive(Clone)]
pub struct SharedBytes {
    /// The file's bytes (a memory map, or memory).
    pub source: Arc<dyn AsRef<[u8]> + Send + Sync>,
    /// The part that is meant.
    pub range: Range<usize>,
}

impl SharedBytes {
    /// All of `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { source: Arc::new(bytes), range }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &(*self.source).as_ref()[self.range.clone()]
    }
}

impl std::fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedBytes").field("range", &self.range).finish_non_exhaustive()
    }
}

/// Reads a range of a file: what an application gives that has neither a path nor all bytes in memory.
pub type ReadRange = dyn Fn(Range<u64>) -> io::Result<Vec<u8>> + Send + Sync;

/// A range of a file. Nothing is read before [`FileRange::load`].
#[derive(Clone)]
pub struct FileRange {
    source: Source,
    range: Range<u64>,
}

#[derive(Clone)]
enum Source {
    /// In memory, or mapped.
    Held(SharedBytes),
    /// Read when it is asked for. The path is only named in errors.
    Read { path: Arc<Path>, read: Arc<ReadRange> },
}

impl From<SharedBytes> for FileRange {
    fn from(bytes: SharedBytes) -> Self {
        let range = 0..bytes.range.len() as u64;
        Self { source: Source::Held(bytes), range }
    }
}

impl FileRange {
    /// A file of `length` bytes that `read` reads. `path` is only named in errors.
    pub fn reading(path: &Path, length: u64, read: Arc<ReadRange>) -> Self {
        Self { source: Source::Read { path: path.into(), read }, range: 0..length }
    }

    /// Whether the bytes are in memory or mapped, so that loading them reads nothing.
    pub fn is_held(&self) -> bool {
        matches!(self.source, Source::Held(_))
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// A part, cut where this range ends.
    #[must_use]
    pub fn part(&self, part: Range<u64>) -> Self {
        let at = |offset: u64| self.range.start.saturating_add(offset).min(self.range.end);
        Self { source: self.source.clone(), range: at(part.start)..at(part.end) }
    }

    /// The bytes: in place where they are in memory, else read now.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if they cannot be read, or come in another number than was asked for.
    pub fn load(&self) -> Result<SharedBytes> {
        match &self.source {
            Source::Held(bytes) => {
                // Parts of what is in memory, whose length is a usize.
                let at = |offset: u64| bytes.range.start + offset as usize;
                let range = at(self.range.start)..at(self.range.end);
                Ok(SharedBytes { source: bytes.source.clone(), range })
            }
            Source::Read { path, read } => {
                let bytes = read(self.range.clone()).map_err(io_error("read", path))?;
                if bytes.len() as u64 != self.length() {
                    let problem = format!("{} bytes came instead of {}", bytes.len(), self.length());
                    return Err(io_error("read", path)(io::Error::new(io::ErrorKind::UnexpectedEof, problem)));
                }
                Ok(SharedBytes::new(bytes))
            }
        }
    }
}

impl std::fmt::Debug for FileRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileRange").field("range", &self.range).finish_non_exhaustive()
    }
}
