//! Writing the files of a plan: tensor by tensor into parts beside their places, resumably; then all are verified, and
//! only then put in place.

use std::time::Duration;

use loam_files::digest::Sha256;
use loam_files::file::{FinishedFile, PartialFile};
use loam_files::gguf::{Writer, header};

use super::journal::{Journal, Origins};
use super::set;
use super::shards::declarations;
use super::{Plan, Progress, Shard};
use crate::Result;
use crate::verify::{Expected, verify};

/// Takes a tensor's bytes, piece by piece.
pub(super) type Put<'p> = dyn FnMut(&[u8]) -> Result<()> + 'p;

/// A conversion on its way to the disk.
pub(super) struct Output<'p> {
    /// What is to be written.
    pub plan: &'p Plan,
    /// Identity of the input: if it changes, an earlier run's work is worth nothing.
    pub source: String,
    /// What each tensor is made from.
    pub origins: &'p Origins<'p>,
    /// How long work may take before it is made durable.
    pub sync_every: Duration,
    /// Start over, whatever an earlier run has left.
    pub restart: bool,
}

impl Output<'_> {
    /// Writes all files. `encode` gives the bytes of the tensor with this number to its `Put`. Returns how many tensors
    /// an earlier run had written. After an error nothing is left; after a kill, what the journal tells.
    ///
    /// # Errors
    /// Errors of `encode`, of the files, [`Error::Verify`].
    pub(super) fn write(
        &self,
        encode: &mut dyn FnMut(usize, &mut Put<'_>) -> Result<()>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<usize> {
        let mut journal = Journal::open(self.plan, &self.source, self.sync_every)?;
        set::finish(&self.plan.shards)?;
        let written = self.write_all(&mut journal, encode, progress);
        if written.is_err() {
            self.remove_parts();
        }
        written
    }

    fn write_all(
        &self,
        journal: &mut Journal,
        encode: &mut dyn FnMut(usize, &mut Put<'_>) -> Result<()>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<usize> {
        let done = if self.restart { 0 } else { journal.resume(self.plan, self.origins)? };
        if done == 0 {
            journal.cut(0)?;
            self.remove_parts();
        }
        let mut finished = Vec::with_capacity(self.plan.shards.len());
        for shard in &self.plan.shards {
            finished.push(self.write_shard(shard, done, &finished, journal, encode, progress)?);
        }
        for (shard, file) in self.plan.shards.iter().zip(&finished) {
            self.check(shard, file)?;
        }
        set::put_in_place(&self.plan.shards, finished)?;
        let (tensors, bytes) = (self.plan.tensors.len(), self.plan.data_bytes());
        progress(Progress { tensor: "", index: tensors, tensors, bytes, total_bytes: bytes });
        Ok(done)
    }

    /// Writes one file, of whose tensors those before `done` are there.
    fn write_shard(
        &self,
        shard: &Shard,
        done: usize,
        before: &[FinishedFile],
        journal: &mut Journal,
        encode: &mut dyn FnMut(usize, &mut Put<'_>) -> Result<()>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<FinishedFile> {
        let next = done.clamp(shard.tensors.start, shard.tensors.end);
        let mut writer = self.open(shard, next - shard.tensors.start)?;
        let (total_bytes, tensors) = (self.plan.data_bytes(), self.plan.tensors.len());
        let mut bytes = self.plan.tensors[..next].iter().map(|t| t.bytes).sum();
        for index in next..shard.tensors.end {
            let name = &self.plan.tensors[index].name;
            let (mut digest, origin) = (Sha256::new(), (self.origins)(index));
            encode(index, &mut |band| {
                progress(Progress { tensor: name, index, tensors, bytes, total_bytes });
                bytes += band.len() as u64;
                digest.update(band);
                Ok(writer.write(name, band)?)
            })?;
            if journal.push(digest, &origin) {
                writer.output().sync()?;
                before.iter().for_each(FinishedFile::keep);
                journal.sync()?;
            }
        }
        Ok(writer.finish()?.finish()?)
    }

    /// The part of `shard`, with the header or, if it is resumed, with its first `present` tensors.
    fn open(&self, shard: &Shard, present: usize) -> Result<Writer<PartialFile>> {
        let declared = declarations(&self.plan.tensors[shard.tensors.clone()]);
        if present == 0 {
            let file = PartialFile::open(&shard.path, 0)?;
            return Ok(Writer::new(file, &shard.path, &shard.metadata, &declared)?);
        }
        let (_, placed) = header(&shard.path, &shard.metadata, &declared)?;
        let length = placed.get(present).map_or(shard.bytes, |next| next.offset);
        let mut file = PartialFile::open(&shard.path, length)?;
        // It is worth keeping from the first moment on.
        file.sync()?;
        Ok(Writer::resume(file, &shard.path, &shard.metadata, &declared, present)?)
    }

    fn check(&self, shard: &Shard, file: &FinishedFile) -> Result<()> {
        let declared = declarations(&self.plan.tensors[shard.tensors.clone()]);
        let (_, placed) = header(&shard.path, &shard.metadata, &declared)?;
        verify(file.part(), &shard.path, &Expected { metadata: &shard.metadata, tensors: &placed })
    }

    /// Removes what earlier runs have left, also of shards that this run did not come to.
    fn remove_parts(&self) {
        if set::is_complete(&self.plan.shards) {
            // What was written is the new set, under its names in part.
            return;
        }
        for part in self.plan.shards.iter().filter_map(|shard| PartialFile::part_of(&shard.path).ok()) {
            // Mostly there is none; one that cannot be removed is reported when it is opened.
            let _ = std::fs::remove_file(part);
        }
    }
}
