//! The journal of a conversion: which tensors are complete and safe on the disk, so that the next run of the same
//! conversion continues after them when it was killed.
//!
//! A line with the fingerprint of the conversion, then one line a tensor in the order of the plan: the SHA-256 of its
//! bytes and that of what it was made from. A line is written only after the bytes are durable, and believed only after
//! both were read again: a file of the source may have been replaced by another of the same name, size and times.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use loam_files::digest::Sha256;
use loam_files::file::{LockedFile, PartialFile, open_regular};
use loam_files::gguf::{TensorInfo, header};

use super::shards::declarations;
use super::{Plan, Shard};
use crate::{Error, Result};

/// Length of a tensor's line: two digests in hex, a space and the end.
const LINE: usize = 130;
/// Longest journal that is read: a line for each of the most tensors that a file can have.
const MAX_BYTES: u64 = 16 << 20;

/// Gives the digest of what the tensor with this number is made from.
pub(super) type Origins<'o> = dyn Fn(usize) -> String + 'o;

/// An open journal. Dropped, it is removed; it stays if the process is killed, or ends on a signal after a sync.
#[derive(Debug)]
pub(super) struct Journal {
    file: LockedFile,
    /// First line.
    head: String,
    /// Lines of tensors that are complete but perhaps not durable.
    pending: String,
    synced: Instant,
    every: Duration,
    /// Named in errors.
    out: std::path::PathBuf,
}

impl Journal {
    /// Opens the journal of the conversion to `plan`, and no other process's. `source` stands for the input's identity.
    ///
    /// # Errors
    /// Errors of the file; another process is at the same conversion.
    pub(super) fn open(plan: &Plan, source: &str, every: Duration) -> Result<Journal> {
        let out = plan.shards[0].path.clone();
        let file = LockedFile::open(&out, ".loam-journal")?;
        let head = format!("loam-journal 2 {}\n", fingerprint(plan, source)?);
        Ok(Journal { file, head, pending: String::new(), synced: Instant::now(), every, out })
    }

    /// How many tensors an earlier run left complete: their bytes, and what they were made from, are read and compared.
    /// The journal is cut to these.
    ///
    /// # Errors
    /// Errors of the journal's file. A part that cannot be read counts as not there.
    pub(super) fn resume(&mut self, plan: &Plan, origins: &Origins<'_>) -> Result<usize> {
        let mut text = String::new();
        // What is not text is no journal of ours.
        let read = Read::by_ref(self.file.file()).take(MAX_BYTES).read_to_string(&mut text).is_ok();
        let lines = if read { text.strip_prefix(&self.head) } else { None };
        // A line that was cut by a crash does not count.
        let noted: Vec<&str> =
            lines.into_iter().flat_map(|l| l.split_inclusive('\n')).filter(|l| l.len() == LINE).collect();
        // A signal must not throw away what is being checked.
        self.file.keep(!noted.is_empty());
        let done = if noted.is_empty() { 0 } else { count_complete(plan, &noted, origins)? };
        self.file.keep(done > 0);
        self.cut(done)?;
        Ok(done)
    }

    /// Forgets all tensors after the first `done`.
    ///
    /// # Errors
    /// Errors of the file.
    pub(super) fn cut(&mut self, done: usize) -> Result<()> {
        let length = if done == 0 { 0 } else { self.head.len() + LINE * done };
        let file = self.file.file();
        file.set_len(length as u64)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(Error::io("write", &self.out))?;
        self.pending = if done == 0 { self.head.clone() } else { String::new() };
        Ok(())
    }

    /// Notes the digest of the next tensor and that of what it was made from. Says whether it is time to make
    /// everything durable.
    pub(super) fn push(&mut self, digest: Sha256, origin: &str) -> bool {
        self.pending += &format!("{} {origin}\n", digest.hex());
        self.synced.elapsed() >= self.every
    }

    /// Writes the lines of all tensors so far, whose bytes are durable by now.
    ///
    /// # Errors
    /// Errors of the file.
    pub(super) fn sync(&mut self) -> Result<()> {
        let file = self.file.file();
        let written = file.write_all(self.pending.as_bytes()).and_then(|()| file.sync_data());
        written.map_err(Error::io("write", &self.out))?;
        self.file.keep(true);
        self.pending.clear();
        self.synced = Instant::now();
        Ok(())
    }
}

/// What makes two conversions the same: the program, the input, and every byte before the data of every shard,
/// which name all tensors with types and sizes, and all keys.
fn fingerprint(plan: &Plan, source: &str) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(concat!(env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    hash.update(source.as_bytes());
    for shard in &plan.shards {
        let (head, _) = header(&shard.path, &shard.metadata, &declarations(&plan.tensors[shard.tensors.clone()]))?;
        hash.update(&(head.len() as u64).to_le_bytes());
        hash.update(&head);
    }
    Ok(hash.hex())
}

/// How many tensors from the first on are in the parts with the bytes that are `noted`, and would be made from the
/// same.
fn count_complete(plan: &Plan, noted: &[&str], origins: &Origins<'_>) -> Result<usize> {
    let mut done = 0;
    for shard in &plan.shards {
        let (head, placed) = header(&shard.path, &shard.metadata, &declarations(&plan.tensors[shard.tensors.clone()]))?;
        let Some(mut part) = open_part(shard, &head) else { return Ok(done) };
        for tensor in &placed {
            let complete = |line: &&str| {
                line.trim_end().split_once(' ').is_some_and(|(bytes, origin)| {
                    digest(&mut part, tensor).as_deref() == Some(bytes) && origins(done) == origin
                })
            };
            if !noted.get(done).is_some_and(complete) {
                return Ok(done);
            }
            done += 1;
        }
    }
    Ok(done)
}

/// The part of `shard`, if it is there and begins with `head`.
fn open_part(shard: &Shard, head: &[u8]) -> Option<File> {
    let path = PartialFile::part_of(&shard.path).ok()?;
    let mut part = open_regular(Path::new(&path)).ok()?;
    let mut found = vec![0; head.len()];
    part.read_exact(&mut found).ok()?;
    (found == head).then_some(part)
}

/// Digest of a tensor's bytes in `part`; `None` if they are not all there.
fn digest(part: &mut File, tensor: &TensorInfo) -> Option<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    part.seek(SeekFrom::Start(tensor.offset)).ok()?;
    let mut left = tensor.bytes;
    while left > 0 {
        let piece = &mut buffer[..left.min(1 << 20) as usize];
        part.read_exact(piece).ok()?;
        hash.update(piece);
        left -= piece.len() as u64;
    }
    Some(hash.hex())
}
