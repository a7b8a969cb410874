//! An open GGUF file, or all files of a split model: declarations, and the bytes, mapped.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::{Gguf, TensorInfo, split};
use crate::SharedBytes;
use crate::digest::{self, Sha256};
use crate::error::{Error, Result};
use crate::file;
use crate::threads;

/// A GGUF file with its tensor data, or all files of a split model.
#[derive(Debug)]
pub struct GgufFile {
    /// What the file declares, or all shards together.
    pub gguf: Gguf,
    /// The bytes of each shard.
    shards: Vec<SharedBytes>,
    digest: OnceLock<String>,
}

impl GgufFile {
    /// Maps a file and reads its declarations. Weights are used in place and paged in on demand. Of a split model the
    /// first shard is given; the others are opened with it.
    ///
    /// A file that another program cuts short while it is mapped ends this process (a bus error, as with every program
    /// that maps files). loam itself replaces files by renaming, which leaves maps intact. For files that others
    /// write to meanwhile there is [`GgufFile::read`].
    ///
    /// # Errors
    /// [`Error::Io`] if it is no readable regular file, [`Error::Gguf`] if it breaks a rule of the format,
    /// [`Error::Metadata`] if shards are missing or do not belong together.
    pub fn open(path: &Path) -> Result<GgufFile> {
        GgufFile::assemble(path, |path| {
            let file = file::open_regular(path)?;
            // SAFETY: the map is read-only and private. The bytes are plain data without invalid values, and everything
            // derived from them is checked once, on owned copies; a later change by another process can alter weights,
            // but no length or offset. Cutting the file short raises SIGBUS, which is documented above.
            let map = unsafe { memmap2::MmapOptions::new().map(&file) }.map_err(file::io_error("map", path))?;
            let range = 0..map.len();
            Ok(SharedBytes { source: Arc::new(map), range })
        })
    }

    /// Reads a whole file, or all shards, of at most `limit` bytes together into memory: independent of what happens to
    /// the files afterwards.
    ///
    /// # Errors
    /// As [`GgufFile::open`], and [`Error::Limit`].
    pub fn read(path: &Path, limit: u64) -> Result<GgufFile> {
        let mut left = limit;
        GgufFile::assemble(path, |path| {
            let bytes = file::read_bounded(path, left)?;
            left -= bytes.len() as u64;
            let range = 0..bytes.len();
            Ok(SharedBytes { source: Arc::new(bytes), range })
        })
    }

    fn assemble(path: &Path, mut load: impl FnMut(&Path) -> Result<SharedBytes>) -> Result<GgufFile> {
        let bytes = load(path)?;
        let mut gguf = Gguf::parse(path, bytes.bytes())?;
        let mut shards = vec![bytes];
        let others = split::others(&gguf)?;
        if !others.is_empty() {
            let mut parts = vec![gguf.clone()];
            for path in &others {
                let bytes = load(path).map_err(|error| missing(&gguf, path, error))?;
                parts.push(Gguf::parse(path, bytes.bytes())?);
                shards.push(bytes);
            }
            gguf = split::join(parts)?;
        }
        Ok(GgufFile { gguf, shards, digest: OnceLock::new() })
    }

    /// Length of all files together: what the process has in memory once everything was read.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.range.len() as u64).sum()
    }

    /// The data of a tensor of this file, in place. (A `tensor` of another file gives other bytes, or a range that
    /// cannot be used.)
    pub fn bytes(&self, tensor: &TensorInfo) -> SharedBytes {
        // Checked by the reader: the data lie within the file, whose length is a usize.
        let start = tensor.offset as usize;
        let source = self.shards[usize::from(tensor.shard)].source.clone();
        SharedBytes { source, range: start..start + tensor.bytes as usize }
    }

    /// SHA-256 of a tensor's data, in hex.
    pub fn tensor_digest(&self, tensor: &TensorInfo) -> String {
        digest::sha256_hex(self.bytes(tensor).bytes())
    }

    /// SHA-256, in hex, of all tensors sorted by name: for each its name, type, shape and the digest of its data.
    /// Independent of metadata, of the order in the file, of alignment and of splits. Computed once.
    pub fn content_digest(&self) -> &str {
        self.digest.get_or_init(|| {
            let tensors: Vec<&TensorInfo> = self.gguf.tensors_by_name().collect();
            let digest = |tensor: &&TensorInfo| digest::sha256(self.bytes(tensor).bytes());
            let digests: Vec<[u8; 32]> = match threads::pool(None) {
                Ok(pool) => pool.install(|| tensors.par_iter().map(digest).collect()),
                Err(_) => tensors.iter().map(digest).collect(),
            };
            let mut hash = Sha256::new();
            for (tensor, digest) in tensors.iter().zip(&digests) {
                hash.update(&(tensor.name.len() as u64).to_le_bytes());
                hash.update(tensor.name.as_bytes());
                hash.update(&tensor.ty.id().to_le_bytes());
                hash.update(&(tensor.shape.len() as u64).to_le_bytes());
                tensor.shape.iter().for_each(|dim| hash.update(&dim.to_le_bytes()));
                hash.update(digest);
            }
            hash.hex()
        })
    }
}

/// Says which shard is missing, and of what.
fn missing(first: &Gguf, shard: &Path, error: Error) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::MissingShard { path: first.path().into(), shard: shard.into() }
        }
        error => error,
    }
}
