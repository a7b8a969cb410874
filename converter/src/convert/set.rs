//! Several files as one output: a set of shards takes the place of an older one in a way that leaves, after an error
//! and after a kill, the old set or the new one.
//!
//! Names of files can be changed one after the other only. So a mark comes first, in one step, once all parts are
//! complete: from then on readers take the parts ([`place`](loam_files::gguf::place)), and the renames may end at any
//! moment. The next conversion to the same place ends them.

use std::fs;
use std::path::Path;

use loam_files::file::{FinishedFile, PartialFile, io_error, write_atomic};
use loam_files::gguf::set_mark;

use super::Shard;
use crate::{Error, Result};

/// Puts all files in place: one file in one step, a set over an older one as this module says, another set with the
/// first shard last: without it no reader opens the others, and if one cannot be renamed, none stays.
///
/// # Errors
/// Errors of the files.
pub(super) fn put_in_place(shards: &[Shard], files: Vec<FinishedFile>) -> Result<()> {
    match shards {
        [_, _, ..] if shards.iter().all(is_there) => over(shards, files),
        [_, _, ..] => fresh(shards, files),
        _ => files.into_iter().try_for_each(|file| Ok(file.commit()?)),
    }
}

/// Whether there is a shard, and no link to one.
fn is_there(shard: &Shard) -> bool {
    fs::symlink_metadata(&shard.path).is_ok_and(|found| found.is_file())
}

/// Whether a new set is complete that was not renamed to its end.
pub(super) fn is_complete(shards: &[Shard]) -> bool {
    shards.len() > 1 && set_mark(&shards[0].path).is_file()
}

/// Ends the renames of an earlier run that was killed, or met an error.
///
/// # Errors
/// Errors of the files.
pub(super) fn finish(shards: &[Shard]) -> Result<()> {
    if !is_complete(shards) {
        return Ok(());
    }
    for shard in shards.iter().rev() {
        let part = PartialFile::part_of(&shard.path)?;
        if part.is_file() {
            loam_files::file::put_in_place(&part, &shard.path)?;
        }
    }
    Ok(loam_files::file::remove(&set_mark(&shards[0].path))?)
}

fn over(shards: &[Shard], mut files: Vec<FinishedFile>) -> Result<()> {
    let (first, mark) = (&shards[0].path, set_mark(&shards[0].path));
    files.iter().for_each(FinishedFile::keep);
    write_atomic(&mark, |out| {
        out.write_all(b"complete: the files called .loam-part are the shards of this set\n")
            .map_err(io_error("write", &mark))
    })?;
    let renamed = remove(first).and_then(|()| files.iter_mut().rev().try_for_each(|file| Ok(file.put()?)));
    // After an error the parts are what is read, with the mark, until the next run has renamed them.
    files.into_iter().for_each(FinishedFile::leave);
    renamed?;
    Ok(loam_files::file::remove(&mark)?)
}

fn fresh(shards: &[Shard], files: Vec<FinishedFile>) -> Result<()> {
    // A first shard of a set that is not whole must not stand before new ones.
    remove(&shards[0].path)?;
    for (at, file) in files.into_iter().enumerate().rev() {
        if let Err(error) = file.commit() {
            for shard in &shards[at + 1..] {
                let _ = fs::remove_file(&shard.path);
            }
            return Err(error.into());
        }
    }
    Ok(())
}

/// Removes a shard if it is there: programs that know no mark must not read it with those of another set.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("replace", path)(error)),
        _ => Ok(()),
    }
}
