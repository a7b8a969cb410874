//! Rules of this repository that no other tool checks.

use std::path::{Path, PathBuf};

/// Most lines of a source file.
const MAX_LINES: usize = 500;
/// Most characters of a line of WGSL (rustfmt sees to Rust).
const MAX_WIDTH: usize = 120;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository").to_owned()
}

/// All files below `folder` whose name ends in one of `endings`, build output left out.
fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("can list").map(|entry| entry.expect("can list").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && name != ".git" {
            files(&path, endings, found);
        } else if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

fn sources(endings: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let mut paths = Vec::new();
    files(&root, endings, &mut paths);
    assert!(!paths.is_empty(), "no {endings:?} below {}", root.display());
    let named = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.strip_prefix(&root).expect("below the root").display().to_string(), text)
    };
    paths.into_iter().map(named).collect()
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn files_are_short() {
    let long = sources(&[".rs", ".wgsl"]).into_iter().filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{path}: {lines} lines, at most {MAX_LINES}"))
    });
    assert_none(&long.collect::<Vec<_>>());
}

#[test]
fn wgsl_lines_are_short() {
    let mut problems = Vec::new();
    for (path, text) in sources(&[".wgsl"]) {
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > MAX_WIDTH {
                problems.push(format!("{path}:{}: longer than {MAX_WIDTH} characters", number + 1));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn rust_files_begin_with_a_description() {
    let silent = sources(&[".rs"]).into_iter().filter(|(_, text)| !text.starts_with("//!"));
    assert_none(&silent.map(|(path, _)| format!("{path}: does not begin with //!")).collect::<Vec<_>>());
}

#[test]
fn wgsl_files_begin_with_a_description() {
    let silent = sources(&[".wgsl"]).into_iter().filter(|(_, text)| !text.starts_with("// "));
    assert_none(&silent.map(|(path, _)| format!("{path}: does not begin with a comment")).collect::<Vec<_>>());
}

#[test]
fn every_op_is_found_by_its_name_everywhere() {
    let mut problems = Vec::new();
    for op in loam_shaders::OPS {
        for path in [
            format!("shaders/{}/mod.rs", op.name),
            format!("runtime/src/ops/{}.rs", op.name),
            format!("tests/ops/{}.rs", op.name),
        ] {
            if !root().join(&path).is_file() {
                problems.push(format!("{path} is missing"));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled in two parts, so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut problems = Vec::new();
    for (path, text) in sources(&[".rs", ".wgsl", ".toml"]) {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                problems.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn no_file_is_a_bag_of_things() {
    let bags = ["utils", "util", "misc", "helpers", "common"];
    let bag = |path: &str| {
        let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folder = Path::new(path).parent().and_then(|folder| folder.file_name()?.to_str()).unwrap_or_default();
        bags.contains(&stem) || bags.contains(&folder)
    };
    let found = sources(&[".rs", ".wgsl"]).into_iter().map(|(path, _)| path).filter(|path| bag(path));
    assert_none(&found.collect::<Vec<_>>());
}
