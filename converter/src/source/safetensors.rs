//! Safetensors files: one, or several with an index. The bytes stay in the memory map; nothing is copied here.
//!
//! The `safetensors` crate checks the header (contiguous offsets, no overlap, no hole, no tail, shape times type equals
//! range). On top come limits on header and entry count, and a refusal of duplicate names, which a JSON map hides.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::json::{Json, open_regular};
use crate::{Error, Result};

/// Largest header that is read. The biggest published models need under 1 MB.
const MAX_HEADER: u64 = 32 << 20;
/// Most tensors in a file.
const MAX_TENSORS: usize = 65_536;

/// Element types that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
}

impl Float {
    /// Bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            Float::F32 => 4,
            Float::F16 | Float::BF16 => 2,
        }
    }

    /// Widens little-endian elements to f32, exactly. `bytes` holds as many elements as `out`.
    pub fn widen(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Float::F32 => {
                for (o, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *o = f32::from_le_bytes(*b);
                }
            }
            Float::F16 => {
                for (o, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *o = half::f16::from_le_bytes(*b).to_f32();
                }
            }
            Float::BF16 => {
                for (o, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *o = half::bf16::from_le_bytes(*b).to_f32();
                }
            }
        }
    }
}

/// A tensor of a checkpoint: where its bytes are.
#[derive(Debug, Clone)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// A tensor's bytes in the map.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The file it is in.
    pub path: &'a Path,
    /// Element type.
    pub float: Float,
    /// Dimensions in PyTorch order: the last one is contiguous.
    pub shape: &'a [usize],
    /// Little-endian elements, row-major.
    pub bytes: &'a [u8],
}

impl View<'_> {
    /// All elements as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.bytes.len() / self.float.bytes()];
        self.float.widen(self.bytes, &mut out);
        out
    }
}

/// The mapped files of one model and the tensors in them.
#[derive(Debug)]
pub struct Checkpoint {
    files: Vec<(PathBuf, Mmap)>,
    tensors: BTreeMap<String, Entry>,
}

impl Checkpoint {
    /// Opens one file that holds all tensors.
    ///
    /// # Errors
    /// The file cannot be opened or its header breaks a rule.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint { files: Vec::new(), tensors: BTreeMap::new() };
        checkpoint.add(path)?;
        Ok(checkpoint)
    }

    /// Opens the shards that `index` (`model.safetensors.index.json`) names.
    ///
    /// # Errors
    /// The index is malformed, names a file outside its folder, or a shard that is missing or holds other tensors than the index says.
    pub fn open_sharded(index: &Path) -> Result<Checkpoint> {
        let map = weight_map(index)?;
        let dir = index.parent().unwrap_or(Path::new("."));
        let shards: std::collections::BTreeSet<&str> = map.values().map(String::as_str).collect();
        let mut checkpoint = Checkpoint { files: Vec::new(), tensors: BTreeMap::new() };
        for shard in shards {
            checkpoint.add(&dir.join(shard))?;
        }
        for (name, shard) in &map {
            let found = checkpoint.tensors.get(name).map(|entry| checkpoint.files[entry.file].0.as_path());
            if found != Some(dir.join(shard).as_path()) {
                return Err(Error::tensor(index, name, format!("the index places it in {shard}, where it is not")));
            }
        }
        if let Some(extra) = checkpoint.tensors.keys().find(|name| !map.contains_key(*name)) {
            return Err(Error::tensor(index, extra, "is in a shard but not in the index"));
        }
        Ok(checkpoint)
    }

    /// Names in sorted order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What tells these weights from others without reading them: the names, sizes, times of change and headers of the
    /// files.
    ///
    /// # Errors
    /// A file is gone.
    pub fn identity(&self) -> Result<String> {
        let mut out = String::new();
        for (path, map) in &self.files {
            out += &loam::file::identity(path)?;
            // The header was checked when the file was opened.
            let length = map.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b) as usize);
            out += &loam::file::sha256_hex(map.get(..8 + length).unwrap_or_default());
        }
        Ok(out)
    }

    /// Gives the pages that were read so far back to the system; views stay valid and read them again when used.
    pub fn release(&self) {
        self.files.iter().for_each(|(_, map)| loam::file::release(map));
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The mapped files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The tensor `name`, if there is one.
    ///
    /// # Errors
    /// Its element type is none of f32, f16, bf16.
    pub fn tensor(&self, name: &str) -> Result<Option<View<'_>>> {
        let Some(entry) = self.tensors.get(name) else { return Ok(None) };
        let (path, map) = &self.files[entry.file];
        let float = match entry.dtype {
            Dtype::F32 => Float::F32,
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::BF16,
            other => {
                let problem = format!("has element type {other:?}; F32, F16 and BF16 can be read");
                return Err(Error::tensor(path, name, problem));
            }
        };
        Ok(Some(View { path, float, shape: &entry.shape, bytes: &map[entry.start..entry.end] }))
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let map = map(&open_regular(path)?).map_err(Error::io("map", path))?;
        let bad = |problem: String| Error::Safetensors { path: path.into(), problem };
        check_header(&map).map_err(bad)?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| bad(e.to_string()))?;
        let data = header + 8;
        let file = self.files.len();
        for (name, info) in metadata.tensors() {
            let (start, end) = (data + info.data_offsets.0, data + info.data_offsets.1);
            let entry = Entry { file, dtype: info.dtype, shape: info.shape.clone(), start, end };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(Error::tensor(path, name, "is also in another shard"));
            }
        }
        self.files.push((path.into(), map));
        Ok(())
    }
}

/// Maps a whole file. An empty file gives an empty map.
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and only read as bytes. Another process that truncates the file meanwhile can stop
    // this one with SIGBUS (as for every mapped reader), but cannot make it read outside the map.
    unsafe { Mmap::map(file) }
}

/// The `weight_map` of an index: tensor name to file name. File names are single path components.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    let json = Json::read(index)?;
    let map = json.object("weight_map")?.ok_or_else(|| json.error("weight_map", "is missing"))?;
    let mut files = BTreeMap::new();
    for name in map.keys() {
        let file = map.text(name)?.ok_or_else(|| map.error(name, "must be a file name"))?;
        let mut parts = Path::new(file).components();
        let single = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == file);
        if !single || file.contains(['/', '\\', ':', '\0']) || !file.ends_with(".safetensors") {
            let problem = format!("{file:?} is no name of a .safetensors file in the same folder");
            return Err(map.error(name, problem));
        }
        files.insert(name.to_string(), file.to_string());
    }
    if files.is_empty() {
        return Err(json.error("weight_map", "is empty"));
    }
    Ok(files)
}

/// Limits and duplicate names, before anything is built from the header.
fn check_header(bytes: &[u8]) -> std::result::Result<(), String> {
    let Some(length) = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)) else {
        return Err(format!("the file has only {} bytes", bytes.len()));
    };
    if length > MAX_HEADER {
        return Err(format!("the header claims {length} bytes, the limit is {MAX_HEADER}"));
    }
    let header = usize::try_from(length).ok().and_then(|n| bytes[8..].get(..n));
    let header = header.ok_or_else(|| format!("the header claims {length} bytes, the file has {}", bytes.len()))?;
    serde_json::Deserializer::from_slice(header).deserialize_map(Names).map_err(|e| e.to_string())
}

/// Visits the header's keys only.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            if seen.len() == MAX_TENSORS {
                return Err(serde::de::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            if let Some(name) = seen.replace(name) {
                return Err(serde::de::Error::custom(format!("tensor {name:?} is there twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "safetensors_tests.rs"]
mod tests;
