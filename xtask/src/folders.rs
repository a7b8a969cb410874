//! Which folder of a crate uses which, and where that goes round in a circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::lexer::layers;
use crate::sources::Source;

/// For each folder (or file) directly below a crate's `src`: the others that its code names.
pub type Uses = BTreeMap<String, BTreeSet<String>>;

/// Files that only tests compile.
pub fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/") || path.starts_with("tests/") || path.starts_with("benches/")
}

/// The uses in the crate whose sources lie below `src`, for example `runtime/src`. Names that the crate's root
/// re-exports count for the folder they come from. Code after `#[cfg(test)]` and files of tests are left out, and so is
/// the module `error`: every folder knows the errors, and they hold values of every folder.
pub fn uses(src: &str, sources: &[Source]) -> Uses {
    let below: Vec<(&str, &Source)> = sources
        .iter()
        .filter_map(|source| Some((source.path.strip_prefix(src)?.strip_prefix('/')?, source)))
        .filter(|(path, _)| path.ends_with(".rs") && !is_test(path))
        .collect();
    let folder = |path: &str| path.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
    let mut uses: Uses = below.iter().map(|(path, _)| (folder(path), BTreeSet::new())).collect();
    let root = below.iter().find(|(path, _)| *path == "lib.rs" || *path == "main.rs");
    let exports = root.map(|(_, source)| exports(&layers(&source.text).code, &uses)).unwrap_or_default();
    for (path, source) in &below {
        let from = folder(path);
        let code = layers(&source.text).code;
        let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let named = names(code, "crate::").into_iter().chain(names(code, &root_from(path)));
        let named = named.filter_map(|name| resolve(&name, &uses, &exports));
        let named: BTreeSet<String> = named.filter(|to| *to != from).collect();
        uses.entry(from).or_default().extend(named);
    }
    for left_out in ["lib", "main", "error"] {
        uses.remove(left_out);
        for used in uses.values_mut() {
            used.remove(left_out);
        }
    }
    uses
}

/// The chain of `super::` that leads from the module in the file `path` to the crate's root.
fn root_from(path: &str) -> String {
    let depth = path.split('/').count() - usize::from(path.ends_with("/mod.rs"));
    "super::".repeat(depth)
}

fn resolve(name: &str, uses: &Uses, exports: &BTreeMap<String, String>) -> Option<String> {
    if uses.contains_key(name) { Some(name.to_owned()) } else { exports.get(name).cloned() }
}

/// The words that directly follow `prefix` in `code`, also in braces: `crate::{a::B, c}` names a and c.
fn names(code: &str, prefix: &str) -> Vec<String> {
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with("::") {
            continue;
        }
        let start = at + prefix.len();
        if code[start..].starts_with('{') {
            let close = crate::functions::closing(code, start).unwrap_or(code.len());
            found.extend(crate::functions::split(&code[start + 1..close]).map(|part| word(&part)));
        } else {
            found.push(word(&code[start..]));
        }
    }
    found
}

/// What the root re-exports by `pub use folder::..Name;`: name to folder.
fn exports(root: &str, uses: &Uses) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for part in root.split("pub use ").skip(1) {
        let path = part.split(';').next().unwrap_or_default().trim();
        let Some(folder) = path.split("::").next().filter(|first| uses.contains_key(*first)) else { continue };
        let words = path.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
        found.extend(words.skip(1).map(|word| (word.to_owned(), folder.to_owned())));
    }
    found
}

/// The sets of folders that reach each other, each with two members or more.
pub fn cycles(uses: &Uses) -> Vec<Vec<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> = uses.keys().map(|from| (from, reachable(uses, from))).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for from in uses.keys().filter(|from| reach[*from].contains(from)) {
        if seen.insert(from) {
            let members: Vec<&String> = reach[from].iter().filter(|to| reach[*to].contains(from)).copied().collect();
            seen.extend(members.iter().copied());
            found.push(members.into_iter().cloned().collect());
        }
    }
    found
}

fn reachable<'a>(uses: &'a Uses, from: &String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = uses[from].iter().collect();
    while let Some(folder) = next.pop() {
        if reached.insert(folder) {
            next.extend(uses.get(folder).into_iter().flatten());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::{cycles, uses};
    use crate::sources::Source;

    fn file(path: &str, text: &str) -> Source {
        Source { path: format!("x/src/{path}"), text: text.to_owned() }
    }

    #[test]
    fn circles_are_found_also_through_the_root() {
        let files = [
            file("lib.rs", "pub mod a;\npub mod b;\nmod c;\npub use b::inner::{Bee, Other};"),
            file("a/mod.rs", "use crate::{Bee, c::D};\n// use crate::nothing;"),
            file("b/inner.rs", "fn f() { crate::a::g(); }"),
            file("c.rs", "use super::a; use a::super::b;\n#[cfg(test)]\nmod tests { use crate::b; }"),
        ];
        let uses = uses("x/src", &files);
        assert!(uses["a"].contains("b") && uses["a"].contains("c") && uses["c"].contains("a"));
        assert_eq!(cycles(&uses), [["a", "b", "c"]]);
    }
}
