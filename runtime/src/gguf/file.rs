//! An open GGUF file: its declarations and its bytes, mapped.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::{Gguf, TensorInfo};
use crate::error::Result;
use crate::file::{self, Sha256};
use crate::plan::storage::SharedBytes;

/// A GGUF file with its tensor data.
#[derive(Debug)]
pub struct GgufFile {
    /// What the file declares.
    pub gguf: Gguf,
    bytes: SharedBytes,
    digest: OnceLock<String>,
}

impl GgufFile {
    /// Maps a file and reads its declarations. Weights are used in place and paged in on demand.
    ///
    /// A file that another program cuts short while it is mapped ends this process (a bus error, as with every program
    /// that maps files). loam itself replaces files by renaming, which leaves maps intact. For files that others
    /// write to meanwhile there is [`GgufFile::read`].
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it is no readable regular file, [`Error::Gguf`](crate::Error::Gguf) if it breaks a
    /// rule of the format, [`Error::Metadata`](crate::Error::Metadata) if it is a shard of a split model.
    pub fn open(path: &Path) -> Result<GgufFile> {
        let file = file::open_regular(path)?;
        // SAFETY: the map is read-only and private. The bytes are plain data without invalid values, and everything
        // derived from them is checked once, on owned copies; a later change by another process can alter weights, but
        // no length or offset. Cutting the file short raises SIGBUS, which is documented above.
        let map = unsafe { memmap2::MmapOptions::new().map(&file) }.map_err(file::io_error("map", path))?;
        let range = 0..map.len();
        GgufFile::from_bytes(path, SharedBytes { source: Arc::new(map), range })
    }

    /// Reads a whole file of at most `limit` bytes into memory: independent of what happens to the file afterwards.
    ///
    /// # Errors
    /// As [`GgufFile::open`], and [`Error::Limit`](crate::Error::Limit).
    pub fn read(path: &Path, limit: u64) -> Result<GgufFile> {
        let bytes = file::read_bounded(path, limit)?;
        let range = 0..bytes.len();
        GgufFile::from_bytes(path, SharedBytes { source: Arc::new(bytes), range })
    }

    fn from_bytes(path: &Path, bytes: SharedBytes) -> Result<GgufFile> {
        let gguf = Gguf::parse(path, bytes.bytes())?;
        refuse_split(&gguf)?;
        Ok(GgufFile { gguf, bytes, digest: OnceLock::new() })
    }

    /// The data of a tensor of this file, in place. (A `tensor` of another file gives other bytes, or a range that
    /// cannot be used.)
    pub fn bytes(&self, tensor: &TensorInfo) -> SharedBytes {
        // Checked by the reader: the data lie within the file, whose length is a usize.
        let start = tensor.offset as usize;
        SharedBytes { source: self.bytes.source.clone(), range: start..start + tensor.bytes as usize }
    }

    /// SHA-256 of a tensor's data, in hex.
    pub fn tensor_digest(&self, tensor: &TensorInfo) -> String {
        file::sha256_hex(self.bytes(tensor).bytes())
    }

    /// SHA-256, in hex, of all tensors sorted by name: for each its name, type, shape and the digest of its data.
    /// Independent of metadata, of the order in the file and of alignment. Computed once.
    pub fn content_digest(&self) -> &str {
        self.digest.get_or_init(|| {
            let tensors: Vec<&TensorInfo> = self.gguf.tensors_by_name().collect();
            let digests: Vec<[u8; 32]> = tensors.par_iter().map(|t| file::sha256(self.bytes(t).bytes())).collect();
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

fn refuse_split(gguf: &Gguf) -> Result<()> {
    match gguf.opt_u16("split.count")? {
        None | Some(0 | 1) => Ok(()),
        Some(count) => {
            let problem = format!(
                "is {count}: this is one shard of a split model, and splits are not supported yet; \
                 join them with `llama-gguf-split --merge` first"
            );
            Err(gguf.metadata_error("split.count", problem))
        }
    }
}
