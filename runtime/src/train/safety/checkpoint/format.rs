//! The file of one checkpoint: a GGUF container with `general.type` = "checkpoint", so that `loam inspect` shows it.
//!
//! The first key is [`DIGEST`], at a fixed place: SHA-256 in hex of the whole file with zeros (`0`) in its place. Any
//! other byte that changes, padding too, is found. `loam.run.*` says what run it is, `loam.progress.*` where it stands;
//! each stored buffer is a tensor of 32-bit words.

use std::io::Write;
use std::path::Path;

use super::identity::CLOCK;
use super::{Identity, State};
use crate::digest::Sha256;
use crate::error::{Error, Result};
use crate::file::{AtomicFile, read_pieces};
use crate::gguf::{GgmlType, Gguf, GgufFile, Metadata, TensorDeclaration, Writer, printable};
use crate::problem::CheckpointProblem;
use crate::train::Progress;

/// Key of the digest.
pub const DIGEST: &str = "loam.checkpoint.digest";
/// Key of the format's version.
const VERSION: &str = "loam.checkpoint.version";
/// The version that is written, and the only one that is read.
const CURRENT: u32 = 3;
/// What `general.type` says.
pub const KIND: &str = "checkpoint";
/// Hex digits of a digest.
const DIGITS: usize = 64;
/// Magic, version, two counts; the key's length, the key, its type and the length of the value.
const DIGEST_AT: usize = 24 + 8 + DIGEST.len() + 4 + 8;
/// Bytes read, and words written, at a time.
const CHUNK: usize = 1 << 16;

/// Writes `state` of the run `identity` to `path`, atomically.
///
/// # Errors
/// [`Error::File`], or a state that no file can hold.
pub fn write(path: &Path, architecture: &str, identity: &Identity, state: &State) -> Result<()> {
    let mut metadata = Metadata::new();
    metadata.set(DIGEST, "0".repeat(DIGITS));
    metadata.set("general.type", KIND);
    metadata.set("general.architecture", architecture);
    metadata.set("general.name", format!("checkpoint after {} steps", state.progress.outcome.steps));
    metadata.set(VERSION, CURRENT);
    identity.fields().chain(state.progress.fields()).for_each(|(key, value)| metadata.set(key, value));
    let digest = fill(Sha256::new(), path, &metadata, state)?.hex();
    metadata.set(DIGEST, digest);
    Ok(fill(AtomicFile::create(path)?, path, &metadata, state)?.commit()?)
}

/// Writes the whole file to `out`.
fn fill<W: Write>(out: W, path: &Path, metadata: &Metadata, state: &State) -> loam_files::Result<W> {
    let declare = |(name, words): (&str, &[u32])| TensorDeclaration {
        name: name.to_owned(),
        shape: vec![words.len() as u64],
        ty: GgmlType::I32,
    };
    let more = state.progress.buffers();
    let buffers = || {
        let stored = state.buffers.iter().map(|(name, words)| (name.as_str(), words.as_slice()));
        stored.chain(more.iter().map(|(name, words)| (*name, &**words)))
    };
    let declarations: Vec<_> = buffers().map(declare).collect();
    let mut writer = Writer::new(out, path, metadata, &declarations)?;
    for (name, words) in buffers() {
        for chunk in words.chunks(CHUNK) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|word| word.to_le_bytes()).collect();
            writer.write(name, &bytes)?;
        }
    }
    writer.finish()
}

/// Reads a checkpoint of the run `identity`, and what else is not as it was. Its digest is checked before anything in
/// it is believed.
///
/// # Errors
/// [`Error::Checkpoint`] for a damaged file or another one, [`Error::CheckpointMismatch`], [`Error::File`].
pub fn read(path: &Path, identity: &Identity) -> Result<(State, Vec<String>)> {
    let (file, state) = open(path)?;
    identity.check(&file.gguf)?;
    Ok((state, identity.differences(&file.gguf)))
}

/// The time that the chat template was told in the run of a checkpoint.
///
/// # Errors
/// As [`open`].
pub fn clock(path: &Path) -> Result<Option<u64>> {
    check_digest(path)?;
    Ok(GgufFile::open(path)?.gguf.opt_u64(CLOCK)?)
}

/// Reads a checkpoint of whatever run.
///
/// # Errors
/// As [`read`], without the mismatch.
pub fn open(path: &Path) -> Result<(GgufFile, State)> {
    check_digest(path)?;
    let file = GgufFile::open(path)?;
    check_kind(&file.gguf)?;
    let mut progress = Progress::read(&file.gguf)?;
    let mut buffers = Vec::new();
    for tensor in file.gguf.tensors() {
        if tensor.ty != GgmlType::I32 {
            let problem = format!("has type {}, needs i32", tensor.ty.name());
            return Err(file.gguf.tensor_error(&tensor.name, problem).into());
        }
        let bytes = file.bytes(tensor)?;
        let words = bytes.bytes().as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        buffers.push((tensor.name.clone(), words));
    }
    progress.restore(&mut buffers).map_err(|problem| damaged(path, problem))?;
    Ok((file, State { progress, buffers }))
}

fn damaged(path: &Path, problem: impl Into<CheckpointProblem>) -> Error {
    Error::Checkpoint { path: path.into(), problem: problem.into() }
}

fn check_kind(gguf: &Gguf) -> Result<()> {
    let kind = gguf.opt_str("general.type")?.unwrap_or("model");
    if kind != KIND || gguf.shards() != 1 {
        let kind = printable(kind.as_bytes());
        return Err(damaged(gguf.path(), format!("is no checkpoint: its general.type is {kind:?}")));
    }
    match gguf.u32(VERSION)? {
        CURRENT => Ok(()),
        found => Err(damaged(gguf.path(), CheckpointProblem::Version { found, known: CURRENT })),
    }
}

/// Reads the whole file once and compares its digest.
fn check_digest(path: &Path) -> Result<()> {
    let (mut hash, mut expected) = (Sha256::new(), None);
    read_pieces(path, CHUNK, |bytes| {
        if expected.is_none() {
            let digits = digits(bytes).ok_or_else(|| damaged(path, "is no checkpoint, or its start is damaged"))?;
            expected = Some(digits.to_vec());
            digits.fill(b'0');
        }
        hash.update(bytes);
        Ok::<(), Error>(())
    })?;
    match expected {
        Some(expected) if hash.hex().as_bytes() == expected => Ok(()),
        Some(_) => Err(damaged(path, "is damaged: its bytes do not have the digest that it says")),
        None => Err(damaged(path, "is empty")),
    }
}

/// The digest's digits in the start of a file, if they are where they must be.
fn digits(start: &mut [u8]) -> Option<&mut [u8]> {
    let key = start.get(32..32 + DIGEST.len())?;
    if key != DIGEST.as_bytes() || start.get(..4)? != b"GGUF" {
        return None;
    }
    start.get_mut(DIGEST_AT..DIGEST_AT + DIGITS)
}

/// Makes a file's digest right again after its bytes were changed: for tests of what the digest covers.
pub fn seal(file: &mut [u8]) {
    let Some(place) = digits(file) else { return };
    place.fill(b'0');
    let mut hash = Sha256::new();
    hash.update(file);
    let digest = hash.hex();
    if let Some(place) = digits(file) {
        place.copy_from_slice(digest.as_bytes());
    }
}
