//! Numbers about the source: what a change of the walls is measured by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::folders::{cycles, is_test, uses};
use crate::functions::{functions, widest_tuple};
use crate::lexer::layers;
use crate::sources::Source;

/// Most columns of a line.
pub const WIDTH: usize = 120;

/// The counts of `sources` as text, one a line.
pub fn report(sources: &[Source]) -> String {
    let mut out = String::from("lines per crate (tests, benches and comments included)\n");
    for (name, lines) in lines_per_crate(sources) {
        let _ = writeln!(out, "  {lines:>6}  {name}");
    }
    out += "folders in cycles\n";
    for src in crates(sources).iter().map(|name| format!("{name}/src")) {
        let cycles = cycles(&uses(&src, sources));
        let members: usize = cycles.iter().map(Vec::len).sum();
        let _ = writeln!(out, "  {members:>6}  {src} {cycles:?}");
    }
    for (what, count) in counts(sources) {
        let _ = writeln!(out, "{count:>8}  {what}");
    }
    out
}

/// The folders with a Cargo.toml, by the sources below them.
fn crates(sources: &[Source]) -> Vec<String> {
    let manifests = sources.iter().filter_map(|source| source.path.strip_suffix("/Cargo.toml"));
    manifests.map(str::to_owned).collect()
}

fn is_source(path: &str) -> bool {
    path.ends_with(".rs") || path.ends_with(".wgsl")
}

/// Lines of Rust and WGSL; a file counts for the innermost crate that it lies in.
fn lines_per_crate(sources: &[Source]) -> BTreeMap<String, usize> {
    let crates = crates(sources);
    let mut lines = BTreeMap::new();
    for source in sources.iter().filter(|source| is_source(&source.path)) {
        let holds = |name: &&String| source.path.starts_with(&format!("{name}/"));
        let home = crates.iter().filter(holds).max_by_key(|name| name.len()).cloned().unwrap_or_default();
        *lines.entry(home).or_default() += source.text.lines().count();
    }
    lines
}

fn counts(sources: &[Source]) -> Vec<(&'static str, usize)> {
    let rust: Vec<&Source> = sources.iter().filter(|source| source.path.ends_with(".rs")).collect();
    let serves = |path: &str| path.starts_with("examples/") || path.starts_with("xtask/") || is_test(path);
    let product: Vec<&Source> = rust.iter().copied().filter(|source| !serves(&source.path)).collect();
    let all: Vec<_> = rust.iter().flat_map(|source| functions(&layers(&source.text).code)).collect();
    let tuples = |least: usize| all.iter().filter(|f| f.types.iter().any(|ty| widest_tuple(ty) >= least)).count();
    let longest = all.iter().filter_map(|function| function.lines).max().unwrap_or(0);
    vec![
        ("files of Rust", rust.len()),
        ("functions", all.len()),
        ("lines of the longest function", longest),
        (
            "call sites of Engine::new outside of tests and examples",
            product.iter().map(|s| s.text.matches("Engine::new(").count()).sum(),
        ),
        (
            "public items without docs outside of tests and examples",
            product.iter().map(|s| undocumented(&s.text)).sum(),
        ),
        ("functions named `of`", all.iter().filter(|function| function.name == "of").count()),
        ("functions with a tuple of two or more in a parameter", tuples(2)),
        ("functions with a tuple of three or more in a parameter", tuples(3)),
        (
            "comments over 120 columns",
            sources.iter().filter(|s| is_source(&s.path)).map(|s| wide_comments(&s.text).len()).sum(),
        ),
    ]
}

/// The numbers of the lines, from 1, on which a comment reaches beyond [`WIDTH`]. Rows of tables may.
pub fn wide_comments(text: &str) -> Vec<usize> {
    let comments = layers(text).comments;
    let wide = comments.lines().enumerate().filter(|(_, line)| {
        let comment = line.trim().trim_start_matches(['/', '!']).trim_start();
        line.trim_end().chars().count() > WIDTH && !comment.starts_with('|')
    });
    wide.map(|(at, _)| at + 1).collect()
}

/// Public items of a file that no `///` precedes.
fn undocumented(text: &str) -> usize {
    let kinds =
        ["fn", "async fn", "unsafe fn", "const fn", "struct", "enum", "trait", "const", "static", "type", "mod"];
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let public = |line: &str| {
        let item = line.strip_prefix("pub ");
        item.is_some_and(|item| {
            kinds.iter().any(|kind| item.strip_prefix(kind).is_some_and(|rest| rest.starts_with(' ')))
        })
    };
    let documented = |at: usize| {
        let before = lines[..at].iter().rev().find(|line| !line.starts_with("#["));
        before.is_some_and(|line| line.starts_with("///"))
    };
    // A module documents itself in its own file.
    let is_module = |line: &str| line.starts_with("pub mod ") && line.ends_with(';');
    (0..lines.len()).filter(|&at| public(lines[at]) && !is_module(lines[at]) && !documented(at)).count()
}

#[cfg(test)]
mod tests {
    use super::{report, undocumented};
    use crate::sources::Source;

    #[test]
    fn items_without_docs_are_counted() {
        let text = "/// A.\n#[must_use]\npub fn a() {}\npub fn b() {}\npub mod c;\npub(crate) fn d() {}\n/// E.\npub struct E;";
        assert_eq!(undocumented(text), 1);
    }

    #[test]
    fn files_count_for_the_innermost_crate() {
        let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
        let files = [
            file("a/Cargo.toml", ""),
            file("a/b/Cargo.toml", ""),
            file("a/src/lib.rs", "//! A.\n\nmod x;\n"),
            file("a/b/src/lib.rs", "//! B.\n"),
        ];
        let report = report(&files);
        assert!(report.contains("     3  a\n") && report.contains("     1  a/b\n"), "{report}");
    }
}
