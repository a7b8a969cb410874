//! Weights: safetensors files, one, or several with an index; or GGUF files. The bytes stay in the memory map; nothing
//! is copied here.
//!
//! The `safetensors` crate checks the header (contiguous offsets, no overlap, no hole, no tail, shape times type equals
//! range). On top come limits on header and entry count, and a refusal of duplicate names, which a JSON map hides.

use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};

use loam_files::file::{Mapped, is_lfs_pointer};
use loam_files::gguf::{GgmlType, Gguf, GgufFile, place, shard_paths};
use loam_shaders::Format;
use safetensors::{Dtype, SafeTensors};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::json::{Json, open_regular, present};
use super::quantised;
use crate::problem::SourceProblem;
use crate::{Error, Result};

/// Largest header that is read. The biggest published models need under 1 MB.
const MAX_HEADER: u64 = 32 << 20;
/// Bytes of a file that its identity is made of.
const HEAD_BYTES: usize = 64 << 10;
/// Most tensors in a file.
const MAX_TENSORS: usize = 65_536;

/// A tensor of a checkpoint: where its bytes are.
#[derive(Debug, Clone)]
struct Entry {
    file: usize,
    element: Element,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// What a tensor consists of.
#[derive(Debug, Clone, Copy)]
enum Element {
    Safetensors(Dtype),
    Gguf(GgmlType),
}

/// A tensor's bytes in the map.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The file it is in.
    pub path: &'a Path,
    /// Element or block type. Of safetensors: F32, F16 or BF16.
    pub format: Format,
    /// Dimensions in PyTorch order: the last one is contiguous.
    pub shape: &'a [usize],
    /// Little-endian elements or blocks, row-major.
    pub bytes: &'a [u8],
}

impl View<'_> {
    /// Bytes of a row of `cols` elements, which are whole blocks: the files' readers have checked it.
    pub fn row_bytes(&self, cols: usize) -> usize {
        cols / self.format.block_len() * self.format.block_bytes()
    }

    /// All elements as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.bytes.len() / self.format.block_bytes() * self.format.block_len()];
        self.format.decode_row(self.bytes, &mut out);
        out
    }
}

/// The mapped files of one model and the tensors in them.
#[derive(Debug)]
pub struct Checkpoint {
    files: Vec<(PathBuf, Mapped)>,
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
    /// The index is malformed, names a file outside its folder, or a shard that is missing or holds other tensors than
    /// the index says.
    pub fn open_sharded(index: &Path) -> Result<Checkpoint> {
        let map = weight_map(index)?;
        let dir = index.parent().unwrap_or(Path::new("."));
        let shards: std::collections::BTreeSet<&str> = map.values().map(String::as_str).collect();
        let mut checkpoint = Checkpoint { files: Vec::new(), tensors: BTreeMap::new() };
        for shard in shards {
            let path = dir.join(shard);
            if !present(&path)? {
                let index = index.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Err(Error::source(&path, SourceProblem::MissingShard { index }));
            }
            checkpoint.add(&path)?;
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

    /// Opens a GGUF model, with all shards if it is split: what it declares, and its tensors under their own names.
    ///
    /// # Errors
    /// Errors of [`GgufFile::open`].
    pub fn open_gguf(path: &Path) -> Result<(Gguf, Checkpoint)> {
        let gguf = GgufFile::open(path)?.gguf;
        let paths = if gguf.shards() > 1 { shard_paths(path) } else { vec![path.to_owned()] };
        let mut checkpoint = Checkpoint { files: Vec::new(), tensors: BTreeMap::new() };
        for path in paths.iter().map(|path| place(path)) {
            let map = Mapped::new(&open_regular(&path)?, &path).map_err(Error::io("map", &path))?;
            checkpoint.files.push((path, map));
        }
        for tensor in gguf.tensors() {
            let file = usize::from(tensor.shard);
            let (start, end) = (tensor.offset as usize, (tensor.offset + tensor.bytes) as usize);
            let (path, map) = &checkpoint.files[file];
            if end > map.len() {
                // It was complete a moment ago.
                return Err(Error::tensor(path, &tensor.name, "is cut off: another program changes the file"));
            }
            let shape = tensor.shape.iter().rev().map(|&n| n as usize).collect();
            let entry = Entry { file, element: Element::Gguf(tensor.ty), shape, start, end };
            checkpoint.tensors.insert(tensor.name.clone(), entry);
        }
        Ok((gguf, checkpoint))
    }

    /// Names of the element or block types, each once, in sorted order.
    pub fn types(&self) -> Vec<String> {
        let name = |element: Element| match element {
            Element::Safetensors(dtype) => format!("{dtype:?}"),
            Element::Gguf(ty) => ty.name().to_owned(),
        };
        let names: std::collections::BTreeSet<String> =
            self.tensors.values().map(|entry| name(entry.element)).collect();
        names.into_iter().collect()
    }

    /// Whether every element is a number of its own: none is a code, or a part of a block.
    pub fn is_plain(&self) -> bool {
        use Dtype as D;
        let plain = |element: Element| match element {
            // Positions and masks that some programs save as I64 and BOOL are no weights.
            Element::Safetensors(dtype) => matches!(dtype, D::F64 | D::F32 | D::F16 | D::BF16 | D::I64 | D::BOOL),
            Element::Gguf(ty) => ty.block_len() == 1,
        };
        self.tensors.values().all(|entry| plain(entry.element))
    }

    /// Names in sorted order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The bytes of the tensor `name`, whatever they mean.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let entry = self.tensors.get(name)?;
        Some(&self.files[entry.file].1[entry.start..entry.end])
    }

    /// What tells these weights from others without reading them: the names, sizes, times of change and first bytes of
    /// the files.
    ///
    /// # Errors
    /// A file is gone.
    pub fn identity(&self) -> Result<String> {
        let mut out = String::new();
        for (path, map) in &self.files {
            out += &loam_files::file::identity(path)?;
            out += &loam_files::digest::sha256_hex(&map[..map.len().min(HEAD_BYTES)]);
        }
        Ok(out)
    }

    /// Gives the pages that were read so far back to the system; views stay valid and read them again when used.
    pub fn release(&self) {
        self.files.iter().for_each(|(_, map)| map.release());
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
    /// Its element type is none of f32, f16, bf16, or a GGUF type that cannot be decoded.
    pub fn tensor(&self, name: &str) -> Result<Option<View<'_>>> {
        let Some(entry) = self.tensors.get(name) else { return Ok(None) };
        let (path, map) = &self.files[entry.file];
        let format = match entry.element {
            Element::Safetensors(Dtype::F32) => Ok(Format::F32),
            Element::Safetensors(Dtype::F16) => Ok(Format::F16),
            Element::Safetensors(Dtype::BF16) => Ok(Format::BF16),
            Element::Safetensors(dtype) => Err(quantised::problem(dtype)),
            Element::Gguf(ty) => ty.format().ok_or_else(|| format!("is {}, which loam cannot decode", ty.name())),
        };
        let format = format.map_err(|problem| Error::tensor(path, name, problem))?;
        Ok(Some(View { path, format, shape: &entry.shape, bytes: &map[entry.start..entry.end] }))
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let map = Mapped::new(&open_regular(path)?, path).map_err(Error::io("map", path))?;
        if is_lfs_pointer(&map) {
            return Err(Error::source(path, SourceProblem::LfsPointer));
        }
        let bad = |problem: String| Error::Safetensors { path: path.into(), problem };
        check_header(&map).map_err(bad)?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| bad(e.to_string()))?;
        let data = header + 8;
        let file = self.files.len();
        for (name, info) in metadata.tensors() {
            let (start, end) = (data + info.data_offsets.0, data + info.data_offsets.1);
            let entry =
                Entry { file, element: Element::Safetensors(info.dtype), shape: info.shape.clone(), start, end };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(Error::tensor(path, name, "is also in another shard"));
            }
        }
        self.files.push((path.into(), map));
        Ok(())
    }
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
