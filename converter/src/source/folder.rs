//! Which folder is meant: a hub's cache keeps a model some folders below the one that people know, a training keeps
//! several in folders of their own.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::json::{open_regular, present};
use crate::problem::SourceProblem;
use crate::{Error, Result};

/// The folder to read.
pub(crate) struct Found {
    pub(crate) dir: PathBuf,
    /// What the user should know if it is another one than was asked for.
    pub(crate) note: Option<String>,
}

/// The folder that has the file `name`: `dir`, or the version in it that is meant where `dir` is what the cache of
/// huggingface_hub keeps of a repository (blobs, refs, snapshots). Without the file it is `dir`.
///
/// # Errors
/// [`SourceProblem::Cache`] if there are several versions and none is called the main one.
pub(crate) fn find(dir: &Path, name: &str) -> Result<Found> {
    let snapshots = dir.join("snapshots");
    if present(&dir.join(name))? || !snapshots.is_dir() {
        return Ok(Found { dir: dir.into(), note: None });
    }
    let mut versions = folders(&snapshots)?;
    let main = main_version(dir)?.map(|commit| snapshots.join(commit)).filter(|main| main.is_dir());
    let chosen = match (main, versions.len()) {
        (Some(main), _) => main,
        (None, 1) => versions.remove(0),
        (None, 0) => return Ok(Found { dir: dir.into(), note: None }),
        (None, _) => return Err(Error::source(dir, SourceProblem::Cache { snapshots: versions })),
    };
    let note = format!("{} is the cache of a repository: {} in it is read", dir.display(), chosen.display());
    Ok(Found { dir: chosen, note: Some(note) })
}

/// The commit that `refs/main` names, if it is a plain name.
fn main_version(dir: &Path) -> Result<Option<String>> {
    /// A commit has 40 digits.
    const MOST: u64 = 100;
    let path = dir.join("refs").join("main");
    if !present(&path)? {
        return Ok(None);
    }
    let mut text = String::new();
    let read = open_regular(&path)?.take(MOST).read_to_string(&mut text);
    let commit = read.ok().map(|_| text.trim().to_owned()).filter(|commit| {
        let mut parts = Path::new(commit).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == commit.as_str())
    });
    Ok(commit)
}

/// What is wrong with the folder `dir` that has no file `name`: with the folders in it that have one.
pub(crate) fn lacks(dir: &Path, name: &'static str) -> SourceProblem {
    let with_file = |folder: &PathBuf| folder.join(name).is_file();
    // A folder that cannot be listed has none to offer.
    let among = folders(dir).unwrap_or_default().into_iter().filter(with_file).collect();
    SourceProblem::NoConfig { file: name, among }
}

/// The folders in `dir`, with numbers in their names in the order of the numbers: checkpoint-9 before checkpoint-10.
fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(Error::io("list", dir))?;
    let mut found: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    found.sort_by_cached_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().ok();
        (number, name)
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(versions: &[&str], main: Option<&str>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for version in versions {
            std::fs::create_dir_all(dir.path().join("snapshots").join(version)).unwrap();
        }
        if let Some(main) = main {
            std::fs::create_dir_all(dir.path().join("refs")).unwrap();
            std::fs::write(dir.path().join("refs/main"), main).unwrap();
        }
        dir
    }

    fn found(dir: &tempfile::TempDir) -> String {
        let found = find(dir.path(), "config.json").unwrap();
        assert_eq!(found.note.is_some(), found.dir != dir.path());
        found.dir.strip_prefix(dir.path()).unwrap().to_string_lossy().into_owned()
    }

    #[test]
    fn the_main_version_of_a_cache_is_meant() {
        assert_eq!(found(&cache(&["a"], None)), "snapshots/a");
        assert_eq!(found(&cache(&["a", "b"], Some("b\n"))), "snapshots/b");
        assert_eq!(found(&cache(&["a"], Some("../../etc"))), "snapshots/a");
        assert_eq!(found(&cache(&["a"], Some("gone"))), "snapshots/a");
        assert_eq!(found(&cache(&[], None)), "");
        let several = cache(&["a", "b"], None);
        let Err(Error::Source { problem: SourceProblem::Cache { snapshots }, .. }) =
            find(several.path(), "config.json")
        else {
            panic!("several versions")
        };
        assert_eq!(snapshots.len(), 2);
        std::fs::write(several.path().join("config.json"), "{}").unwrap();
        assert_eq!(found(&several), "", "a folder with the file is a model, whatever else is in it");
    }

    #[test]
    fn checkpoints_of_a_training_are_named_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["checkpoint-10", "checkpoint-9", "logs"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("config.json"), "{}").unwrap();
        }
        std::fs::remove_file(dir.path().join("logs/config.json")).unwrap();
        let problem = lacks(dir.path(), "config.json").to_string();
        assert!(problem.ends_with("checkpoint-9, checkpoint-10"), "{problem}");
    }
}
