//! An open GGUF file, or all files of a split model: declarations, and the bytes, mapped.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::opened::{Opened, Since};
use super::{Gguf, TensorInfo, read, split};
use crate::digest::{self, Sha256};
use crate::error::{Error, GgufProblem, Result};
use crate::file::{self, Mapped};
use crate::sketch::Sketch;
use crate::threads;
use crate::{FileRange, ReadRange, SharedBytes};

/// A GGUF file with its tensor data, or all files of a split model.
#[derive(Debug)]
pub struct GgufFile {
    /// What the file declares, or all shards together.
    pub gguf: Gguf,
    /// The bytes of each shard.
    shards: Vec<FileRange>,
    /// The shards that are mapped.
    opened: Vec<Opened>,
    digest: OnceLock<String>,
    sketch: OnceLock<Sketch>,
}

impl GgufFile {
    /// Maps a file and reads its declarations. Weights are used in place and paged in on demand. Of a split model the
    /// first shard is given; the others are opened with it.
    ///
    /// A file that another program cuts short while it is mapped ends this process by a signal, as with every program
    /// that maps files; [`file::on_cut`] says why. loam itself replaces files by renaming, which leaves maps intact.
    /// For files that others write to meanwhile there are [`GgufFile::read`] and [`GgufFile::check_unchanged`].
    ///
    /// # Errors
    /// [`Error::Io`] if it is no readable regular file, [`Error::Gguf`] if it breaks a rule of the format,
    /// [`Error::Metadata`] if shards are missing or do not belong together.
    pub fn open(path: &Path) -> Result<GgufFile> {
        let mut opened = Vec::new();
        let mut open = |path: &Path| {
            let file = file::open_regular(&split::place(path))?;
            let map = Mapped::new(&file, path).map_err(file::io_error("map", path))?;
            opened.push(Opened::new(file, path)?);
            let range = 0..map.len();
            Ok(SharedBytes { source: Arc::new(map), range }.into())
        };
        let file = GgufFile::assemble(path, &mut open)?;
        Ok(GgufFile { opened, ..file })
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
            Ok(SharedBytes::new(bytes).into())
        })
    }

    /// A file whose bytes are in memory. `name` is only named in errors.
    ///
    /// # Errors
    /// [`Error::Gguf`] if it breaks a rule of the format, [`Error::MissingShard`] for one of several files of a model.
    pub fn from_bytes(name: &Path, bytes: Vec<u8>) -> Result<GgufFile> {
        let mut bytes = Some(bytes);
        GgufFile::assemble(name, |path| Ok(SharedBytes::new(bytes.take().ok_or_else(|| alone(path))?).into()))
    }

    /// A file of `length` bytes whose ranges `read` reads: its declarations now, in growing pieces from its start, and
    /// the data of a tensor when it is asked for. `name` is only named in errors.
    ///
    /// # Errors
    /// As [`GgufFile::from_bytes`], and [`Error::Io`] if a range cannot be read.
    pub fn from_ranges(name: &Path, length: u64, read: Arc<ReadRange>) -> Result<GgufFile> {
        let mut file = Some(FileRange::reading(name, length, read));
        GgufFile::assemble(name, |path| file.take().ok_or_else(|| alone(path)))
    }

    fn assemble(path: &Path, mut open: impl FnMut(&Path) -> Result<FileRange>) -> Result<GgufFile> {
        let file = open(path)?;
        let mut gguf = declarations(path, &file)?;
        let mut shards = vec![file];
        let others = split::others(&gguf)?;
        if !others.is_empty() {
            let mut parts = vec![gguf.clone()];
            for path in &others {
                let file = open(path).map_err(|error| missing(&gguf, path, error))?;
                parts.push(declarations(path, &file)?);
                shards.push(file);
            }
            gguf = split::join(parts)?;
        }
        Ok(GgufFile { gguf, shards, opened: Vec::new(), digest: OnceLock::new(), sketch: OnceLock::new() })
    }

    /// Length of all files together: what the process has in memory once everything was read.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(FileRange::length).sum()
    }

    /// Where the data of a tensor of this file are. (A `tensor` of another file gives other bytes.)
    pub fn range(&self, tensor: &TensorInfo) -> FileRange {
        self.shards[usize::from(tensor.shard)].part(tensor.offset..tensor.offset.saturating_add(tensor.bytes))
    }

    /// The data of a tensor of this file: in place where the file is in memory or mapped, else read now.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    pub fn bytes(&self, tensor: &TensorInfo) -> Result<SharedBytes> {
        self.range(tensor).load()
    }

    /// SHA-256 of a tensor's data, in hex.
    ///
    /// # Errors
    /// As [`GgufFile::bytes`].
    pub fn tensor_digest(&self, tensor: &TensorInfo) -> Result<String> {
        Ok(digest::sha256_hex(self.bytes(tensor)?.bytes()))
    }

    /// SHA-256, in hex, of all tensors sorted by name: for each its name, type, shape and the digest of its data.
    /// Independent of metadata, of the order in the file, of alignment and of splits. Computed once.
    ///
    /// # Errors
    /// As [`GgufFile::bytes`].
    pub fn content_digest(&self) -> Result<&str> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest);
        }
        let digest = self.digest_contents()?;
        Ok(self.digest.get_or_init(|| digest))
    }

    /// What tells these weights from those of another model, but not from another quantisation of them. Computed once.
    ///
    /// # Errors
    /// As [`GgufFile::bytes`], and [`Error::Tensor`] for a type that cannot be decoded.
    pub fn sketch(&self) -> Result<&Sketch> {
        if let Some(sketch) = self.sketch.get() {
            return Ok(sketch);
        }
        let sketch = Sketch::of(self)?;
        Ok(self.sketch.get_or_init(|| sketch))
    }

    /// Fails if another program has written to the file since it was opened: what was read then and now do not belong
    /// together, and no digest is that of both.
    ///
    /// # Errors
    /// [`Error::Changed`], and [`Error::Io`].
    pub fn check_unchanged(&self) -> Result<()> {
        for file in &self.opened {
            let is_changed = match file.since()? {
                Since::Same => false,
                Since::Changed => true,
                // Renamed, or written to by a program that has set the time back: the bytes tell.
                Since::Touched => match self.digest.get() {
                    Some(before) => *before != self.digest_contents()?,
                    None => false,
                },
            };
            if is_changed {
                return Err(Error::Changed { path: file.path().into() });
            }
        }
        Ok(())
    }

    fn digest_contents(&self) -> Result<String> {
        let tensors: Vec<&TensorInfo> = self.gguf.tensors_by_name().collect();
        let digest = |tensor: &&TensorInfo| Ok(digest::sha256(self.bytes(tensor)?.bytes()));
        let digests: Vec<[u8; 32]> = match threads::pool(None) {
            Ok(pool) => pool.install(|| tensors.par_iter().map(digest).collect::<Result<_>>())?,
            Err(_) => tensors.iter().map(digest).collect::<Result<_>>()?,
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
        Ok(hash.hex())
    }
}

/// Bytes of a file that are read first. Twice as many are read as long as they end within the declarations.
const FIRST: u64 = 1 << 20;

/// Reads the declarations of a file.
fn declarations(path: &Path, file: &FileRange) -> Result<Gguf> {
    let length = file.length();
    let mut most = if file.is_held() { length } else { FIRST.min(length) };
    loop {
        let start = file.part(0..most).load()?;
        let ends = |offset: u64| offset == most && most < length;
        match read::parse(path, start.bytes(), length) {
            Err(Error::Gguf { problem: GgufProblem::Truncated, offset, .. }) if ends(offset) => {
                most = most.saturating_mul(2).min(length);
            }
            parsed => return parsed,
        }
    }
}

/// A file that is given by its bytes has no others beside it.
fn alone(path: &Path) -> Error {
    file::io_error("open", path)(std::io::Error::new(std::io::ErrorKind::NotFound, "only the first shard was given"))
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
