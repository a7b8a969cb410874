//! Rules of this repository that no other tool checks.

use std::path::Path;

use xtask::functions::functions;
use xtask::lexer::layers;
use xtask::sources::{Source, root};

/// Most lines of a source file.
const MAX_LINES: usize = 500;
/// Most columns of a line (rustfmt leaves comments and strings as they are).
const MAX_WIDTH: usize = 120;
/// Most lines of a function.
const MAX_FUNCTION: usize = 80;

fn sources(endings: &[&str]) -> Vec<Source> {
    let found = xtask::sources::sources(&root(), endings).expect("the repository can be read");
    assert!(!found.is_empty(), "no {endings:?} below {}", root().display());
    found
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn files_are_short() {
    let long = sources(&[".rs", ".wgsl"]).into_iter().filter_map(|Source { path, text }| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{path}: {lines} lines, at most {MAX_LINES}"))
    });
    assert_none(&long.collect::<Vec<_>>());
}

#[test]
fn wgsl_lines_are_short() {
    let mut problems = Vec::new();
    for Source { path, text } in sources(&[".wgsl"]) {
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > MAX_WIDTH {
                problems.push(format!("{path}:{}: longer than {MAX_WIDTH} characters", number + 1));
            }
        }
    }
    assert_none(&problems);
}

/// Functions fit on a screen or two.
#[test]
fn functions_are_short() {
    let mut problems = Vec::new();
    for Source { path, text } in sources(&[".rs"]) {
        for function in functions(&layers(&text).code) {
            if let Some(lines) = function.lines.filter(|&lines| lines > MAX_FUNCTION) {
                let (name, line) = (function.name, function.line);
                problems.push(format!("{path}:{line}: fn {name} has {lines} lines, at most {MAX_FUNCTION}"));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn rust_files_begin_with_a_description() {
    // A file that others include cannot have inner documentation.
    let described = |text: &str| text.starts_with("//! ") || text.starts_with("// ");
    let silent = sources(&[".rs"]).into_iter().filter(|source| !described(&source.text));
    assert_none(&silent.map(|source| format!("{}: does not begin with a comment", source.path)).collect::<Vec<_>>());
}

#[test]
fn wgsl_files_begin_with_a_description() {
    let silent = sources(&[".wgsl"]).into_iter().filter(|source| !source.text.starts_with("// "));
    assert_none(&silent.map(|source| format!("{}: does not begin with a comment", source.path)).collect::<Vec<_>>());
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
    for Source { path, text } in sources(&[".rs", ".wgsl", ".toml"]) {
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
    let found = sources(&[".rs", ".wgsl"]).into_iter().map(|source| source.path).filter(|path| bag(path));
    assert_none(&found.collect::<Vec<_>>());
}

/// Whether a line of code names a flag of a command line: two dashes and a letter behind a quote, a space, a bracket or
/// a backquote.
fn names_a_flag(line: &str) -> bool {
    line.match_indices("--").any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + 2..].chars().next();
        before.is_some_and(|c| "\" (`'[{".contains(c)) && after.is_some_and(|c| c.is_ascii_lowercase())
    })
}

#[test]
fn libraries_know_no_flags() {
    assert!(names_a_flag(r#"("--lr", lr)"#) && names_a_flag("use --lr") && !names_a_flag(r"[\p{L}--a-z] i--"));
    let library = |path: &str| ["runtime", "converter", "shaders"].iter().any(|root| Path::new(path).starts_with(root));
    let mut problems = Vec::new();
    for Source { path, text } in sources(&[".rs"]) {
        if !library(&path) || path.ends_with("tests.rs") {
            continue;
        }
        // Tests of a file are at its end.
        let code = text.lines().take_while(|line| !line.starts_with("mod tests"));
        for (number, line) in code.enumerate() {
            if !line.trim_start().starts_with("//") && names_a_flag(line) {
                problems.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(&problems);
}

/// Folders and root files that use each other in a circle, by crate. The command line's log and `plan` verb show one table.
const CYCLES: &[(&str, &[&[&str]])] = &[("targets/cli/src", &[&["log", "verbs"]])];

#[test]
fn folders_use_each_other_in_one_direction() {
    let sources = sources(&[".rs", "Cargo.toml"]);
    let crates = sources.iter().filter_map(|source| Some(format!("{}/src", source.path.strip_suffix("/Cargo.toml")?)));
    for src in crates {
        let found = xtask::folders::cycles(&xtask::folders::uses(&src, &sources));
        let known = CYCLES.iter().find(|(name, _)| *name == src).map_or(&[][..], |(_, cycles)| cycles);
        assert_eq!(found, known, "{src}");
    }
}
