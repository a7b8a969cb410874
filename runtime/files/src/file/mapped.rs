//! Mapped files. Another program may cut one short while it is mapped: reading what is gone raises SIGBUS, which ends a
//! process without a word. [`on_cut`] says the word.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A file in memory, read-only. While it lives, [`on_cut`] knows which addresses are its own.
#[derive(Debug)]
pub struct Mapped {
    map: memmap2::Mmap,
}

/// Where a mapped file is in memory.
#[derive(Debug)]
struct Place {
    start: usize,
    length: usize,
    path: PathBuf,
}

/// The files that are mapped now.
static PLACES: Mutex<Vec<Place>> = Mutex::new(Vec::new());

/// What is called with the path of a mapped file that was cut short. It must not return.
static CUT: OnceLock<fn(&Path)> = OnceLock::new();

impl Mapped {
    /// Maps the whole of `file`, which is at `path`. An empty file gives an empty map.
    ///
    /// # Errors
    /// The system's.
    pub fn new(file: &File, path: &Path) -> io::Result<Mapped> {
        // SAFETY: the map is read-only and private. The bytes are plain data without invalid values, and what is
        // derived from them is checked once, on owned copies; a later change by another process can alter weights, but
        // no length or offset. Cutting the file short raises SIGBUS, for which there is `on_cut`.
        let map = unsafe { memmap2::MmapOptions::new().map(file) }?;
        let (start, length, path) = (map.as_ptr() as usize, map.len(), path.to_owned());
        PLACES.lock().unwrap_or_else(PoisonError::into_inner).push(Place { start, length, path });
        Ok(Mapped { map })
    }

    /// Gives the pages that are in memory back to the system: they count as memory of the process. They are read again
    /// when they are used again.
    pub fn release(&self) {
        release(&self.map);
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl std::ops::Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.iter().position(|place| place.start == self.map.as_ptr() as usize) {
            places.swap_remove(place);
        }
    }
}

#[cfg(unix)]
fn release(map: &memmap2::Mmap) {
    // SAFETY: the map is of a file and read-only, so that what leaves memory is still in the file, unchanged.
    let advised = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    // It is advice: a system that does not take it keeps the pages until it needs the memory.
    let _ = advised;
}

#[cfg(not(unix))]
fn release(_: &memmap2::Mmap) {}

/// The mapped file that `address` is in.
#[cfg(unix)]
fn path_at(address: usize) -> Option<PathBuf> {
    // Another thread may hold the lock for a moment; the thread that reads a map never does.
    let places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    let at = |place: &&Place| (place.start..place.start.saturating_add(place.length)).contains(&address);
    places.iter().find(at).map(|place| place.path.clone())
}

/// From now on `end` is called, once, when the process reads from a mapped file what another program has cut off; it
/// ends the process. The signal comes from a plain read of memory in this crate's callers, in the thread that reads, so
/// that `end` may do what that thread could do there: print, remove files.
#[cfg(unix)]
pub fn on_cut(end: fn(&Path)) {
    extern "C" fn cut(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the system passes a valid `siginfo_t` to a handler that was set with SA_SIGINFO.
        let address = unsafe { (*info).si_addr() } as usize;
        if let (Some(path), Some(end)) = (path_at(address), CUT.get()) {
            end(&path);
        }
        // Not about a map: what the signal does by itself, when the same instruction runs again.
        // SAFETY: resets a signal to its default, which is allowed in a handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // The first one stays: a program has one way to end.
    let _ = CUT.set(end);
    // SAFETY: all-zero is a valid `sigaction`: it consists of integers and an optional pointer.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = cut as extern "C" fn(_, _, _) as libc::sighandler_t;
    // The stack that Rust's threads have for signals.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` is complete; its handler reads an address, takes a lock that its own thread cannot hold, and
    // ends the process or returns. Should it not be set, the signal ends the process as ever.
    unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
}

/// Nothing: other systems keep mapped files from being cut.
#[cfg(not(unix))]
pub fn on_cut(_: fn(&Path)) {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_files_while_they_are_mapped() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("mapped");
        std::fs::write(&path, vec![7; 10_000]).expect("written");
        let mapped = Mapped::new(&File::open(&path).expect("opened"), &path).expect("mapped");
        let start = mapped.as_ptr() as usize;
        assert_eq!(path_at(start + 9_999).as_deref(), Some(path.as_path()));
        assert_eq!((path_at(start + 10_000), path_at(start.wrapping_sub(1))), (None, None));
        drop(mapped);
        assert_eq!(path_at(start), None);
    }
}
