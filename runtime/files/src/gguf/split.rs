//! Split models: `model-00001-of-00003.gguf` and its companions, named and marked as llama-gguf-split does it.
//!
//! The first shard carries the model's metadata, and every shard says which one it is. Nothing in a file names another
//! file: the names of the others follow from the name of the first.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Gguf, MAX_TENSORS, Value, printable};
use crate::error::{Error, Result};

/// Key of a shard's number, from 0 (u16).
pub const SPLIT_NO: &str = "split.no";
/// Key of the number of shards (u16).
pub const SPLIT_COUNT: &str = "split.count";
/// Key of the number of tensors in all shards together (i32).
pub const SPLIT_TENSORS: &str = "split.tensors.count";

/// What a file name `<prefix>-00002-of-00003.gguf` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardName {
    /// Folder and name up to the last `-00002-of-`.
    pub prefix: PathBuf,
    /// Number of the shard, from 0 (the name counts from 1).
    pub no: u16,
    /// Number of shards.
    pub count: u16,
}

impl ShardName {
    /// Reads the name of `path`; `None` if it is no shard's.
    pub fn parse(path: &Path) -> Option<ShardName> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (prefix, no) = rest.rsplit_once('-')?;
        let number = |text: &str| {
            let digits = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u16>().ok().filter(|n| digits && *n > 0)
        };
        let (no, count) = (number(no)?, number(count)?);
        (no <= count).then(|| ShardName { prefix: path.with_file_name(prefix), no: no - 1, count })
    }

    /// Path of shard `no` (from 0) of the same model.
    pub fn path(&self, no: u16) -> PathBuf {
        shard_path(&self.prefix, no, self.count)
    }
}

/// `<prefix>-<no + 1>-of-<count>.gguf`, both numbers in five digits.
pub fn shard_path(prefix: &Path, no: u16, count: u16) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!("-{:05}-of-{count:05}.gguf", u32::from(no) + 1));
    PathBuf::from(name)
}

/// The files of a model, judged by the name of the one that was given: all shards, or the one file.
pub fn shard_paths(path: &Path) -> Vec<PathBuf> {
    match ShardName::parse(path) {
        Some(name) => (0..name.count).map(|no| name.path(no)).collect(),
        None => vec![path.to_owned()],
    }
}

/// The file beside the `first` shard of a set that says: all shards are complete, also those still called
/// parts. It is there while a new set takes the place of an old one, so that readers see one of the two and not some
/// of each.
pub fn set_mark(first: &Path) -> PathBuf {
    with_suffix(first, ".loam-set")
}

/// Where the bytes of `shard` are: under its name, or in its part if the set is complete and the part not renamed yet.
pub fn place(shard: &Path) -> PathBuf {
    let Some(name) = ShardName::parse(shard).filter(|name| name.count > 1) else { return shard.to_owned() };
    let part = with_suffix(shard, ".loam-part");
    let found = |path: &Path| fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    let (Some(mark), Some(new), Some(second)) = (found(&set_mark(&name.path(0))), found(&part), found(&name.path(1)))
    else {
        return shard.to_owned();
    };
    // Files that came under the names since then are what is meant.
    let newer = |old: fs::Metadata| new.modified().ok() >= old.modified().ok();
    let is_new = fs::metadata(shard).map_or(true, newer);
    if is_new && same_owner(&mark, &new, &second) { part } else { shard.to_owned() }
}

/// In a folder for all, a part of another user is nothing to read a model from: `mark` and `part` are root's or of the
/// user who has the set.
#[cfg(unix)]
fn same_owner(mark: &fs::Metadata, part: &fs::Metadata, shard: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    mark.uid() == part.uid() && [0, shard.uid()].contains(&part.uid())
}

#[cfg(not(unix))]
fn same_owner(_: &fs::Metadata, _: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Names of the shards after `first`; none if the file is whole.
pub(super) fn others(first: &Gguf) -> Result<Vec<PathBuf>> {
    let count = match first.opt_u16(SPLIT_COUNT)? {
        None | Some(0 | 1) => return Ok(Vec::new()),
        Some(count) => count,
    };
    let no = first.u16(SPLIT_NO)?;
    let name = ShardName::parse(first.path()).filter(|name| (name.no, name.count) == (no, count));
    let Some(name) = name else {
        let expected = format!("<name>-{:05}-of-{count:05}.gguf", u32::from(no) + 1);
        let problem = format!("is {count}, but the file is not called {expected}: the other shards cannot be found");
        return Err(first.metadata_error(SPLIT_COUNT, problem));
    };
    if no != 0 {
        let problem = format!("is {no}: give the first shard, {}", name.path(0).display());
        return Err(first.metadata_error(SPLIT_NO, problem));
    }
    Ok((1..count).map(|no| name.path(no)).collect())
}

/// Makes one model of all its shards in order. The metadata is the first one's without the split keys.
pub(super) fn join(shards: Vec<Gguf>) -> Result<Gguf> {
    check(&shards)?;
    let mut shards = shards.into_iter();
    let Some(mut model) = shards.next() else { unreachable!("the first shard names the others") };
    for (no, shard) in (1..).zip(shards) {
        model.tensors.extend(shard.tensors.into_iter().map(|tensor| super::TensorInfo { shard: no, ..tensor }));
        model.shards += 1;
    }
    for key in [SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS] {
        model.metadata.remove(key);
    }
    let name = |i: u32| model.tensors[i as usize].name.as_str();
    let mut by_name: Vec<u32> = (0..model.tensors.len() as u32).collect();
    by_name.sort_by(|&a, &b| name(a).cmp(name(b)));
    if let Some(pair) = by_name.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
        return Err(model.tensor_error(name(pair[0]), "is in two shards"));
    }
    model.by_name = by_name;
    Ok(model)
}

/// Numbers and counts are those of one model, and no metadata contradicts the first shard's.
fn check(shards: &[Gguf]) -> Result<()> {
    let first = &shards[0];
    let expected = first.i32(SPLIT_TENSORS)?;
    let known: HashMap<&str, &Value> = first.metadata().iter().collect();
    for (no, shard) in shards.iter().enumerate() {
        let differs = |key: &str, found: String, expected: String| {
            let problem = format!("is {found}, must be {expected} as in the first shard: a shard of another model");
            Err(shard.metadata_error(key, problem))
        };
        let found = shard.u16(SPLIT_NO)?;
        if usize::from(found) != no {
            return Err(shard.metadata_error(SPLIT_NO, format!("is {found}, the file's name says {no}")));
        }
        let (count, tensors) = (shard.u16(SPLIT_COUNT)?, shard.i32(SPLIT_TENSORS)?);
        if usize::from(count) != shards.len() {
            return differs(SPLIT_COUNT, count.to_string(), shards.len().to_string());
        }
        if tensors != expected {
            return differs(SPLIT_TENSORS, tensors.to_string(), expected.to_string());
        }
        // Writers repeat a few keys, or none, in later shards.
        let own = |key: &str| key == SPLIT_NO || key == super::ALIGNMENT_KEY;
        let mut keys = shard.metadata().iter().filter(|(key, _)| !own(key));
        if let Some((key, value)) = keys.find(|(key, value)| known.get(key).is_some_and(|first| first != value)) {
            return differs(key, brief(value), known.get(key).map_or(String::new(), |first| brief(first)));
        }
    }
    let total: usize = shards.iter().map(|shard| shard.tensors.len()).sum();
    if u64::try_from(expected).ok() != Some(total as u64) {
        return Err(first.metadata_error(SPLIT_TENSORS, format!("is {expected}, the shards hold {total} tensors")));
    }
    if total as u64 > MAX_TENSORS {
        return Err(Error::Limit { what: "number of tensors".into(), value: total as u64, limit: MAX_TENSORS });
    }
    Ok(())
}

fn brief(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", printable(&text[..text.len().min(60)])),
        Value::U32(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        other => other.type_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_made() {
        let name = ShardName::parse(Path::new("dir/my-model-00002-of-00003.gguf")).expect("a shard");
        assert_eq!(name, ShardName { prefix: "dir/my-model".into(), no: 1, count: 3 });
        assert_eq!(name.path(2), Path::new("dir/my-model-00003-of-00003.gguf"));
        assert_eq!(shard_paths(Path::new("m-00001-of-00002.gguf")).len(), 2);
        for other in ["m.gguf", "m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-1-of-3.gguf", "m-00001-of-00003"] {
            assert_eq!(ShardName::parse(Path::new(other)), None, "{other}");
            assert_eq!(shard_paths(Path::new(other)), [Path::new(other)]);
        }
    }
}
