//! Checkpoints of a run: a file per generation, two of them kept, the newest that is whole is used.
//!
//! A generation is written beside its place, flushed, renamed, and the folder flushed; only then the one before the
//! last is removed. So whenever the process or the machine stops, at least one whole generation is in the folder once
//! there has been one. `docs/checkpoints.md` describes the file.

mod format;
mod identity;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

pub use format::{DIGEST, KIND, open, seal};
pub use identity::Identity;

use crate::error::{Error, Result};
use crate::file::{self, LockedFile};
use crate::problem::CheckpointProblem;
use crate::train::Progress;

/// All that a run needs to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Where it stands.
    pub progress: Progress,
    /// The stored buffers that training changes, by name: parameters, summed gradients, the optimizer's.
    pub buffers: Vec<(String, Vec<u32>)>,
}

impl State {
    /// Words of all buffers.
    pub fn words(&self) -> usize {
        self.buffers.iter().map(|(_, words)| words.len()).sum()
    }

    /// Words of all buffers in a file, with room for a `best` adapter beside the present one.
    pub fn stored_words(&self, best: bool) -> u64 {
        let own: usize = self.progress.buffers().iter().map(|(_, words)| words.len()).sum();
        let best = if best { self.buffers.first().map_or(0, |(_, words)| words.len()) } else { 0 };
        (self.words() + own + best) as u64
    }
}

/// Where a run keeps its checkpoints, and when it writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoints {
    /// The folder; made if only it itself is missing. One run at a time can use it.
    pub folder: PathBuf,
    /// Write one every so many steps. One more is written at the end, and when a run is stopped.
    pub every: NonZeroU64,
    /// Continue from the newest that is whole; from the start if there is none yet. Without this a checkpoint in the
    /// folder is an error: nothing is lost by a forgotten option.
    pub resume: bool,
}

/// The folder of a run, locked.
pub struct Generations {
    folder: PathBuf,
    identity: Identity,
    architecture: String,
    /// Number of the newest file that is known to be whole.
    newest: Option<u64>,
    /// Number of the next file.
    next: u64,
    /// What is not as it was when the file that is continued from was written, so that bits of the result may differ.
    pub differences: Vec<String>,
    _lock: LockedFile,
}

/// What was found in a folder: the file that is continued from and its state, and what was wrong with newer ones.
pub type Found = (Option<(PathBuf, State)>, Vec<String>);

impl Generations {
    /// Locks the folder and, if it is asked for, reads the newest checkpoint that is whole.
    ///
    /// # Errors
    /// [`Error::File`], also if another process uses the folder or a file cannot be read; [`Error::Checkpoint`] if
    /// there is a checkpoint and the caller did not ask to continue from it, or if none is whole;
    /// [`Error::CheckpointMismatch`].
    pub fn open(request: &Checkpoints, architecture: &str, identity: Identity) -> Result<(Self, Found)> {
        let folder = request.folder.clone();
        match file::create_folder(&folder) {
            Err(loam_files::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let lock = LockedFile::open(&folder.join("checkpoint"), ".lock")?;
        remove_leftovers(&folder)?;
        let numbers = numbers(&folder)?;
        let next = numbers.first().map_or(1, |newest| newest.saturating_add(1));
        let architecture = architecture.to_owned();
        let (newest, differences) = (None, Vec::new());
        let mut generations = Self { folder, identity, architecture, newest, next, differences, _lock: lock };
        let found = match request.resume {
            true => generations.newest_of(&numbers)?,
            false if numbers.is_empty() => (None, Vec::new()),
            false => {
                let path = generations.path(numbers[0]);
                return Err(Error::Checkpoint { path, problem: CheckpointProblem::NotAsked });
            }
        };
        Ok((generations, found))
    }

    /// Reads the first of `numbers` that is whole.
    fn newest_of(&mut self, numbers: &[u64]) -> Result<Found> {
        let mut problems = Vec::new();
        for (index, &number) in numbers.iter().enumerate() {
            let path = self.path(number);
            match format::read(&path, &self.identity) {
                Ok((state, differences)) => {
                    self.differences = differences;
                    self.newest = Some(number);
                    // A process that was killed may not have come to it.
                    numbers.iter().skip(index + 2).try_for_each(|&old| file::remove(&self.path(old)))?;
                    return Ok((Some((path, state)), problems));
                }
                // A file that cannot be read now may be sound: it is neither passed over nor made room of.
                Err(error @ (Error::CheckpointMismatch { .. } | Error::File(loam_files::Error::Io { .. }))) => {
                    return Err(error);
                }
                Err(error) => problems.push(error.chain()),
            }
        }
        match problems.is_empty() {
            true => Ok((None, problems)),
            false => {
                let problem = CheckpointProblem::NoneUsable { problems: problems.join("; ") };
                Err(Error::Checkpoint { path: self.folder.clone(), problem })
            }
        }
    }

    /// Writes a generation, and then removes all but it and the whole one before it. Returns where it is.
    ///
    /// # Errors
    /// [`Error::File`]: the generations before stay as they were.
    pub fn save(&mut self, state: &State) -> Result<PathBuf> {
        let (number, path) = (self.next, self.path(self.next));
        format::write(&path, &self.architecture, &self.identity, state)?;
        let before = self.newest.replace(number);
        self.next = number.saturating_add(1);
        for old in numbers(&self.folder)? {
            if old != number && Some(old) != before {
                file::remove(&self.path(old))?;
            }
        }
        Ok(path)
    }

    /// The newest file that is known to be whole.
    pub fn newest(&self) -> Option<PathBuf> {
        self.newest.map(|number| self.path(number))
    }

    fn path(&self, number: u64) -> PathBuf {
        file_of(&self.folder, number)
    }
}

fn file_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("checkpoint-{number:08}.gguf"))
}

/// When the run began that has left its checkpoints in `folder`, in seconds since 1970, as its chat template was told.
/// `None` without a checkpoint that says it: what is wrong with the folder is told by [`Generations::open`].
pub fn began(folder: &Path) -> Option<u64> {
    let mut numbers = numbers(folder).ok()?.into_iter();
    numbers.find_map(|number| format::clock(&file_of(folder, number)).ok()).flatten()
}

/// Numbers of the generations in `folder`, the newest first.
fn numbers(folder: &Path) -> Result<Vec<u64>> {
    let mut numbers: Vec<u64> = file::list(folder)?.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("checkpoint-")?.strip_suffix(".gguf")?;
    let number = digits.parse().ok()?;
    // Exactly as this program writes it: any other file is not ours to remove.
    (name == format!("checkpoint-{number:08}.gguf")).then_some(number)
}

/// What a process that was killed while it wrote has left. The folder is locked: no other process writes here.
fn remove_leftovers(folder: &Path) -> Result<()> {
    let names = file::list(folder)?;
    let left = names.iter().filter(|name| file::is_temporary(name));
    left.map(|name| folder.join(name)).try_for_each(|path| Ok(file::remove(&path)?))
}
