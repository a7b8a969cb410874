//! Which files a verb reads and which it writes: checked before the work, so that nothing read is ever overwritten, and
//! nothing that was computed is lost because it cannot be written.

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use loam::file::AtomicFile;
use loam::gguf::ShardName;

use crate::args::{AdapterSpec, DataSpec};
use crate::failure::{Failure, Result};

/// What is written through an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// A file.
    File,
    /// A folder of results.
    Folder,
    /// A folder that the program keeps in order by itself.
    Managed,
}

/// The arguments that name what is written. Every other path that a verb is given is read: whoever adds one need not
/// say so here.
const WRITTEN: [(&str, Written); 6] = [
    ("output", Written::File),
    ("answers", Written::File),
    ("log", Written::File),
    ("report", Written::File),
    ("keep", Written::Folder),
    ("checkpoint_dir", Written::Managed),
];
/// Verbs whose output is a folder.
const FOLDERS: [&str; 2] = ["pull", "to-peft"];
/// Verbs that take the arguments of another one and write nothing.
const READERS: [&str; 1] = ["plan"];

/// A path as it was given.
#[derive(Debug, Clone)]
struct Given {
    argument: String,
    path: PathBuf,
    written: Option<Written>,
}

/// Checks all paths on the command line: no output is an input, another output, or in a folder that the program keeps
/// in order, and all can be written.
pub fn check_arguments(matches: &ArgMatches) -> Result {
    let mut matches = ("", matches);
    while let Some(verb) = matches.1.subcommand() {
        matches = verb;
    }
    let (verb, matches) = matches;
    if READERS.contains(&verb) {
        return Ok(());
    }
    let given = given(verb, matches);
    let of = |written: Option<Written>| given.iter().filter(move |given| given.written == written);
    for output in of(Some(Written::File)) {
        // `--init X -o X` continues with X, which is read before the training and replaced in one go after it. But a
        // run that can be asked to continue begins with what it began with.
        let is_result = output.argument == "output";
        let is_kept = of(Some(Written::Managed)).next().is_some();
        let starts = |input: &Given| is_result && input.argument == "init" && same(&input.path, &output.path);
        if is_kept && of(None).any(starts) {
            let message = "--init and -o are one file: with --checkpoint-dir the adapter to start from must stay; give \
                           -o another name";
            return Err(Failure::Usage(message.into()));
        }
        let inputs = of(None).filter(|input| !starts(input));
        let inputs: Vec<&Path> = inputs.map(|input| input.path.as_path()).collect();
        check(&inputs, &[&output.path])?;
        for folder in of(Some(Written::Managed)) {
            check_apart(&folder.path, &output.path)?;
        }
    }
    if verb == "convert" {
        let is_split = matches.contains_id("split_size");
        of(Some(Written::File)).try_for_each(|output| check_beside(of(None), &output.path, is_split))?;
    }
    let outputs: Vec<&Path> = of(Some(Written::File)).map(|output| output.path.as_path()).collect();
    check(&[], &outputs)
}

/// The paths that were typed.
fn given(verb: &str, matches: &ArgMatches) -> Vec<Given> {
    let typed = matches.ids().filter(|id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine));
    let of = |id: &str| {
        let written = WRITTEN.iter().find(|(name, _)| *name == id).map(|(_, written)| *written);
        let written = written.map(|written| if FOLDERS.contains(&verb) { Written::Folder } else { written });
        let given = |path| Given { argument: id.to_owned(), path, written };
        paths(matches, id).into_iter().map(given).collect::<Vec<_>>()
    };
    typed.flat_map(|id| of(id.as_str())).collect()
}

/// The values of an argument, if they are paths.
fn paths(matches: &ArgMatches, id: &str) -> Vec<PathBuf> {
    if let Ok(Some(paths)) = matches.try_get_many::<PathBuf>(id) {
        return paths.cloned().collect();
    }
    if let Ok(Some(data)) = matches.try_get_many::<DataSpec>(id) {
        return data.map(|data| data.path.clone()).collect();
    }
    match matches.try_get_many::<AdapterSpec>(id) {
        Ok(Some(adapters)) => adapters.map(|adapter| adapter.path.clone()).collect(),
        _ => Vec::new(),
    }
}

/// Fails if an input has a name that a conversion to `output` uses besides that very name: of its unfinished files, or
/// of the shards that it becomes if it is split.
fn check_beside<'a>(inputs: impl Iterator<Item = &'a Given>, output: &Path, is_split: bool) -> Result {
    let with = |suffix: &str| {
        let mut name = output.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let unfinished = [with(".loam-part"), with(".loam-journal")];
    let is_shard =
        |path: &Path| ShardName::parse(path).is_some_and(|name| same(&name.prefix, &output.with_extension("")));
    for Given { path, .. } in inputs {
        if (is_split && is_shard(path)) || unfinished.iter().any(|name| same(name, path)) {
            let (input, output) = (path.display(), output.display());
            return Err(Failure::Usage(format!(
                "{input} may be overwritten by the files of {output}; give another name"
            )));
        }
    }
    Ok(())
}

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

/// Fails if `output` is in `folder`, which the program keeps in order: it removes and replaces files there.
fn check_apart(folder: &Path, output: &Path) -> Result {
    let is_in = match (folder_of(output).canonicalize(), folder.canonicalize()) {
        (Ok(inner), Ok(outer)) => inner.starts_with(outer),
        _ => same(folder_of(output), folder),
    };
    if !is_in {
        return Ok(());
    }
    let message = format!("{} is in --checkpoint-dir, where loam replaces and removes files", output.display());
    Err(Failure::Usage(message + "; give another folder"))
}

/// Fails if there can be no file at `path`: no such folder, one that may not be written to, a folder itself, a pipe, a
/// device, a link to nothing.
fn writable(path: &Path) -> Result {
    nameable(path)?;
    if is_another_users(path) {
        let message = format!(
            "cannot write {}: it is another user's, in a folder where only they may replace it",
            path.display()
        );
        return Err(Failure::new(message, "give another name"));
    }
    // Nothing tells but to try.
    AtomicFile::create(path)?;
    Ok(())
}

/// Whether there is a file at `path` that this user may not replace, although the folder takes new ones (`/tmp`).
#[cfg(unix)]
fn is_another_users(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const STICKY: u32 = 0o1000;
    // SAFETY: returns a number of the process, and cannot fail.
    let user = unsafe { libc::geteuid() };
    let folder = folder_of(path).metadata();
    let is_sticky = folder.is_ok_and(|folder| folder.mode() & STICKY != 0 && folder.uid() != user);
    user != 0 && is_sticky && path.symlink_metadata().is_ok_and(|found| found.uid() != user)
}

#[cfg(not(unix))]
fn is_another_users(_: &Path) -> bool {
    false
}

/// Fails if `path` cannot be the name of a file.
fn nameable(path: &Path) -> Result {
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
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    /// The exit code of the check of a command line.
    fn checked(folder: &Path, line: &str) -> std::result::Result<(), u8> {
        let at = |word: &str| folder.join(word).display().to_string();
        let words = line.split_whitespace().map(|word| if word.contains('.') { at(word) } else { word.to_owned() });
        let words = std::iter::once("loam".to_owned()).chain(words);
        check_arguments(&Cli::command().get_matches_from(words)).map_err(|failure| failure.code())
    }

    #[test]
    fn every_path_that_is_not_written_is_read() {
        let folder = tempfile::tempdir().expect("temp dir");
        let checked = |line: &str| checked(folder.path(), line);
        for output in ["b.gguf", "d.jsonl", "h.jsonl", "t.jinja", "i.gguf"] {
            let line = "train b.gguf --data d.jsonl --eval-data h.jsonl --chat-template t.jinja --init i.gguf";
            assert_eq!(checked(&format!("{line} -o n.gguf --log {output}")), Err(2), "{output}");
            let expected = if output == "i.gguf" { Ok(()) } else { Err(2) };
            assert_eq!(checked(&format!("{line} -o {output}")), expected, "{output}");
            assert_eq!(checked(&line.replace("train", "plan")), Ok(()), "a plan writes nothing");
        }
        assert_eq!(checked("logits b.gguf --tokens 1 --adapter a.gguf -o a.gguf"), Err(2));
        assert_eq!(checked("convert s-00001-of-00002.gguf -o s.gguf"), Ok(()), "shards are joined");
        assert_eq!(checked("convert s-00001-of-00002.gguf -o s.gguf --split-size 1G"), Err(2));
        assert_eq!(checked("convert s.gguf.loam-part -o s.gguf"), Err(2));
        assert_eq!(checked("train b.gguf --data d.jsonl -o x.y/no/z"), Err(1));
    }

    #[test]
    fn what_is_said_to_be_written_is_an_argument_of_a_verb() {
        let (mut open, mut seen) = (vec![Cli::command()], Vec::new());
        while let Some(command) = open.pop() {
            seen.extend(command.get_arguments().map(|argument| argument.get_id().to_string()));
            open.extend(command.get_subcommands().cloned());
        }
        assert!(WRITTEN.iter().all(|(name, _)| seen.iter().any(|found| found == name)), "{seen:?}");
    }

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
