//! Which files a verb reads and which it writes: checked before the work, so that nothing read is ever overwritten.

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Fails now if one of `outputs` could not be written after the work, is one of `inputs`, or is another output.
/// A folder among the inputs stands for the files in it that are no .gguf: those are what is read from a folder. The
/// first shard of a split model stands for all of them.
pub fn check(inputs: &[&Path], outputs: &[&Path]) -> Result {
    let inputs: Vec<PathBuf> = inputs.iter().flat_map(|input| files_of(input)).collect();
    for (index, output) in outputs.iter().enumerate() {
        writable(output)?;
        if inputs.iter().any(|input| same(input, output)) {
            return Err(Failure::Usage(format!("{} is an input; loam does not overwrite it", output.display())));
        }
        if outputs[..index].iter().any(|other| same(other, output)) {
            return Err(Failure::Usage(format!("{} is to be written twice; give two names", output.display())));
        }
    }
    Ok(())
}

/// Fails if one of `outputs` has the name of a checkpoint in `folder`: it would replace it.
pub fn check_apart(folder: &Path, outputs: &[&Path]) -> Result {
    let checkpoint =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-"));
    match outputs.iter().find(|path| checkpoint(path) && same(folder_of(path), folder)) {
        Some(path) => {
            let message = format!("{} has the name of a checkpoint in --checkpoint-dir; give another", path.display());
            Err(Failure::Usage(message))
        }
        None => Ok(()),
    }
}

/// Fails if there can be no file at `path`: no such folder, a folder itself, a pipe, a device, a link to nothing.
fn writable(path: &Path) -> Result {
    if path == Path::new("-") {
        let message = "- is no name of an output: files are put in place as a whole, standard output has results only";
        return Err(Failure::Usage(format!("{message}; ./- is a file of that name")));
    }
    match path.metadata() {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(found) if found.is_dir() => {
            let message = format!("cannot write {}: it is a folder", path.display());
            return Err(Failure::new(message, "give the name of a file in it"));
        }
        Ok(_) => {
            let message = format!("cannot write {}: it is no regular file", path.display());
            return Err(Failure::new(message, "give the name of a file: outputs are replaced as a whole"));
        }
        Err(_) if path.is_symlink() => {
            let message = format!("cannot write {}: it is a link to a file that is not there", path.display());
            return Err(Failure::new(message, "remove the link or give the file itself"));
        }
        Err(_) => {}
    }
    let folder = folder_of(path);
    if folder.is_dir() {
        return Ok(());
    }
    let message = format!("cannot write {}: there is no folder {}", path.display(), folder.display());
    Err(Failure::new(message, "make the folder first"))
}

/// `path` with its other shards, or the files in it that are no .gguf. What cannot be listed is reported by whoever
/// opens it.
fn files_of(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return loam::gguf::shard_paths(path);
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let base = |path: &Path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    entries.filter(|path| path.is_file() && !base(path)).collect()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two paths mean one file, by whatever links and detours, also one that is not there yet.
pub fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b || linked(&a, &b),
        (Err(_), Err(_)) => {
            let folders = (folder_of(a).canonicalize(), folder_of(b).canonicalize());
            a.file_name() == b.file_name() && matches!(folders, (Ok(a), Ok(b)) if a == b)
        }
        _ => false,
    }
}

/// Whether two existing files are two names of the same bytes.
#[cfg(unix)]
fn linked(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    matches!((a.metadata(), b.metadata()), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

#[cfg(not(unix))]
fn linked(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_what_they_are() {
        let folder = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("in"), "x").expect("writes");
        std::fs::hard_link(at("in"), at("hard")).expect("links");
        let (input, new) = (at("in"), at("new"));
        let code = |output: &Path, other: &Path| check(&[&input], &[output, other]).map_err(|f| f.code());
        assert_eq!(code(&new, &at("other")), Ok(()));
        assert_eq!(code(&new, &at("in")), Err(2));
        assert_eq!(code(&at("./in"), &new), Err(2));
        assert_eq!(code(&new, &folder.path().join(".").join("new")), Err(2));
        assert_eq!(code(&new, folder.path()), Err(1));
        assert_eq!(code(&new, &at("no/such/folder")), Err(1));
        if cfg!(unix) {
            assert_eq!(code(&at("hard"), &new), Err(2));
        }
    }

    #[test]
    fn a_folder_stands_for_what_is_read_from_it() {
        let folder = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("config.json"), "{}").expect("writes");
        std::fs::write(at("base.gguf"), "old").expect("writes");
        let code = |output: &Path| check(&[folder.path()], &[output]).map_err(|f| f.code());
        assert_eq!(code(&at("config.json")), Err(2));
        assert_eq!(code(&at("base.gguf")), Ok(()));
    }
}
