//! Rules of this repository that no other tool checks.

use std::path::Path;

use xtask::count::{WIDTH, wide_comments};
use xtask::folders::{cycles, is_test, uses};
use xtask::functions::{functions, widest_tuple};
use xtask::lexer::layers;
use xtask::sources::{Source, root};

/// Most lines of a source file.
const MAX_LINES: usize = 500;
/// Most values of a tuple in a parameter.
const WIDEST_TUPLE: usize = 3;
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

/// Whether a line of code names a flag of a command line: two dashes and a letter after a quote, a space, a bracket or
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

/// Words for which there are better ones; the glossary in ARCHITECTURE.md has some of them.
const PRIVATE_WORDS: &[&str] = &[
    "behind",
    "go on",
    "goes on",
    "going on",
    "went on",
    "anew",
    "told of",
    "nobody",
    "in front",
    "what is left of",
    "twin",
    "twins",
    "beginnings",
    "lowered",
    "flights",
];

/// The private words in a line of prose; what stands between backticks is not prose.
fn private_words(line: &str) -> Vec<&'static str> {
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
    let is_word = |word: &str| {
        prose.match_indices(word).any(|(at, _)| {
            let before = prose[..at].chars().next_back();
            let after = prose[at + word.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
    };
    PRIVATE_WORDS.iter().copied().filter(|word| is_word(word)).collect()
}

#[test]
fn prose_uses_words_that_everybody_knows() {
    let mut problems = Vec::new();
    let comments = sources(&[".rs", ".wgsl"]).into_iter().map(|s| Source { text: layers(&s.text).comments, ..s });
    // The model cards came with the models.
    let pages = sources(&[".md"]).into_iter().filter(|page| !page.path.contains("/assets/"));
    for Source { path, text } in comments.chain(pages) {
        for (number, line) in text.lines().enumerate() {
            for word in private_words(line) {
                problems.push(format!("{path}:{}: \"{word}\": {}", number + 1, line.trim()));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn wgsl_lines_are_narrow() {
    let mut problems = Vec::new();
    for Source { path, text } in sources(&[".wgsl"]) {
        // An import with its arguments is one line for the expander.
        let wide = |line: &str| line.chars().count() > WIDTH && !line.starts_with("#import");
        for (number, line) in text.lines().enumerate().filter(|(_, line)| wide(line)) {
            problems.push(format!("{path}:{}: over {WIDTH} columns: {}", number + 1, line.trim()));
        }
    }
    assert_none(&problems);
}

/// rustfmt sees to the code of Rust, but leaves comments as they are.
#[test]
fn comments_are_narrow() {
    let mut problems = Vec::new();
    for Source { path, text } in sources(&[".rs", ".wgsl"]) {
        let wide = wide_comments(&text);
        problems.extend(wide.iter().map(|line| format!("{path}:{line}: a comment over {WIDTH} columns")));
    }
    assert_none(&problems);
}

/// Values that belong together have names. Tables of cases in tests are left out.
#[test]
fn parameters_are_no_wide_tuples() {
    let mut problems = Vec::new();
    for Source { path, text } in sources(&[".rs"]).into_iter().filter(|source| !is_test(&source.path)) {
        for function in functions(&layers(&text).code) {
            let place = format!("{path}:{}: fn {}", function.line, function.name);
            if function.types.iter().any(|ty| widest_tuple(ty) > WIDEST_TUPLE) {
                problems.push(format!("{place}: takes a tuple of more than {WIDEST_TUPLE}; a struct has names"));
            }
        }
    }
    assert_none(&problems);
}

/// No folder of a crate uses one that uses it.
#[test]
fn folders_do_not_use_each_other_in_a_circle() {
    let sources = sources(&[".rs", "Cargo.toml"]);
    let mut problems = Vec::new();
    for crate_root in sources.iter().filter_map(|source| source.path.strip_suffix("/Cargo.toml")) {
        let uses = uses(&format!("{crate_root}/src"), &sources);
        problems.extend(cycles(&uses).iter().map(|folders| format!("{crate_root}: {folders:?} use each other")));
    }
    assert_none(&problems);
}
