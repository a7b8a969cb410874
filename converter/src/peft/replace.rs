//! A folder that changes as a whole: a reader sees the old files or the new ones, never one of each.

use std::fs;
use std::path::{Path, PathBuf};

use loam_files::file::{io_error, write_atomic};

use crate::{Error, Result};

/// Makes `files` the content of the folder `out`, in one step: a new folder takes its place. Other files that were in
/// it are taken along.
///
/// # Errors
/// Errors of the files; `out` holds folders, which could not be taken along, or is the current folder and not empty. It
/// is then as it was.
pub(super) fn replace(out: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    // A link stays, what it leads to is replaced.
    let out = if out.exists() { out.canonicalize().map_err(Error::io("open", out))? } else { out.to_owned() };
    let others = if out.is_dir() { others(&out, files)? } else { Vec::new() };
    let new = tempfile::Builder::new().prefix(".loam-").suffix(".tmp").tempdir_in(parent(&out));
    let new = new.map_err(Error::io("write", &out))?;
    let content = new.path().join("new");
    loam_files::file::create_folder(&content)?;
    for (name, bytes) in files {
        let file = content.join(name);
        write_atomic(&file, |w| w.write_all(bytes).map_err(io_error("write", &file)))?;
    }
    for other in &others {
        let to = content.join(other.file_name().unwrap_or_default());
        // Where a file cannot have two names it is copied.
        fs::hard_link(other, &to).or_else(|_| fs::copy(other, &to).map(drop)).map_err(Error::io("copy", other))?;
    }
    if let Ok(found) = fs::metadata(&out) {
        fs::set_permissions(&content, found.permissions()).map_err(Error::io("write", &out))?;
    }
    put(&content, &out, &new.path().join("old"))?;
    // What is left in it is old, and no loss where it cannot be removed.
    let _ = new.close();
    Ok(())
}

/// What is in `out` besides `files`.
fn others(out: &Path, files: &[(&str, Vec<u8>)]) -> Result<Vec<PathBuf>> {
    let mut others = Vec::new();
    for entry in fs::read_dir(out).map_err(Error::io("list", out))? {
        let path = entry.map_err(Error::io("list", out))?.path();
        if files.iter().any(|(name, _)| path.ends_with(name)) {
            continue;
        }
        if fs::symlink_metadata(&path).map_err(Error::io("open", &path))?.is_dir() {
            let problem = format!("{} holds folders: an adapter is written into a folder of its own", out.display());
            return Err(Error::Argument(problem));
        }
        others.push(path);
    }
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).is_ok_and(|here| here == out);
    if here {
        // Who works in it would stay in the old one.
        return Err(Error::Argument("an adapter cannot take the place of the current folder; name another one".into()));
    }
    Ok(others)
}

/// Puts the folder `new` at `out`. What was there is at `old` then, or in place of `new`.
fn put(new: &Path, out: &Path, old: &Path) -> Result<()> {
    if !out.exists() {
        fs::rename(new, out).map_err(Error::io("write", out))?;
    } else if !exchange(new, out) {
        // Systems that cannot exchange two names have a moment without either.
        fs::rename(out, old).map_err(Error::io("replace", out))?;
        if let Err(error) = fs::rename(new, out) {
            let _ = fs::rename(old, out);
            return Err(Error::io("replace", out)(error));
        }
    }
    // The folder that has the names, where it can be opened as a file.
    fs::File::open(parent(out)).and_then(|folder| folder.sync_all()).or(Ok(()))
}

/// Exchanges two names in one step, where the system can.
#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> [(&'static str, Vec<u8>); 2] {
        [("weights", text.as_bytes().to_vec()), ("config", text.as_bytes().to_vec())]
    }

    fn read(folder: &Path, name: &str) -> String {
        fs::read_to_string(folder.join(name)).unwrap_or_default()
    }

    #[test]
    fn a_folder_changes_as_a_whole_and_keeps_what_is_not_ours() {
        let dir = tempfile::tempdir().expect("temp dir");
        let out = dir.path().join("out");
        replace(&out, &files("old")).expect("written");
        fs::write(out.join("README.md"), "mine").expect("written");
        // Whoever has the old folder open keeps both of its files.
        let (open, old) = (fs::File::open(out.join("weights")).expect("there"), out.clone());
        replace(&out, &files("new")).expect("replaced");
        assert_eq!(std::io::read_to_string(open).expect("readable"), "old");
        assert_eq!(["weights", "config", "README.md"].map(|name| read(&old, name)), ["new", "new", "mine"]);
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn a_folder_with_folders_is_left_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::create_dir(dir.path().join("checkpoint-1")).expect("made");
        fs::write(dir.path().join("weights"), "old").expect("written");
        assert!(matches!(replace(dir.path(), &files("new")), Err(Error::Argument(_))));
        assert_eq!(read(dir.path(), "weights"), "old");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn two_names_are_exchanged_in_one_step() {
        let dir = tempfile::tempdir().expect("temp dir");
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        for (folder, text) in [(&a, "old"), (&b, "new")] {
            fs::create_dir(folder).expect("made");
            fs::write(folder.join("x"), text).expect("written");
        }
        assert!(exchange(&a, &b));
        assert_eq!((read(&a, "x"), read(&b, "x")), ("new".into(), "old".into()));
    }
}
