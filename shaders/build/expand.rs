//! The expander: WGSL files with a few line directives -> plain WGSL.
//!
//! | line | meaning |
//! |---|---|
//! | `#import "include/step.wgsl"` | inserts a file (path from the shaders folder), at most once per variant |
//! | `#define NAME text` | from here on the identifier `NAME` stands for `text` (may be empty), also in import paths |
//! | `#ifdef NAME`, `#ifndef NAME`, `#else`, `#endif` | conditional lines, may be nested |
//!
//! Everything else is WGSL; whole-line comments and empty lines are left out. A definition replaces whole identifiers
//! only and its text is not searched again. Names are upper case by convention.
//!
//! The file `variants` lists files of which several kernels are made, one per line:
//!
//! ```text
//! matmul/tile.wgsl     matmul_tile_{format}
//! attention/tile.wgsl  attention_tile_64    HEAD_DIM=64
//! ```
//!
//! `{format}` makes one kernel per block format and defines `FORMAT` (`q4_0`), so that
//! `#import "format/FORMAT.wgsl"` brings the loader. `NAME=text` defines more. A file that is not listed makes one
//! kernel named after folder and file: `rmsnorm/forward.wgsl` is `rmsnorm_forward`.

use std::path::{Path, PathBuf};

/// Block formats in the order of `loam_shaders::Format` (a test compares).
pub const FORMATS: [&str; 16] = [
    "f32", "f16", "bf16", "q4_0", "q8_0", "q4_k", "q4_1", "q5_0", "q5_1", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4",
    "q2_k", "q3_k",
];

/// Folders of the shaders folder that hold no kernels.
const NO_OPS: [&str; 4] = ["build", "format", "include", "tests"];

/// A kernel to be made from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Kernel name, an identifier.
    pub name: String,
    /// Path from the shaders folder.
    pub file: String,
    /// Definitions before the first line.
    pub defines: Vec<(String, String)>,
    /// Name without the format, if this is one of a family over all formats.
    pub family: Option<String>,
}

/// Expanded text that remembers where its lines came from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Plain WGSL.
    pub text: String,
    /// File and line number of each line of `text`.
    pub origins: Vec<(String, usize)>,
}

/// Folders that hold an op.
pub fn op_folders(root: &Path) -> Result<Vec<PathBuf>, String> {
    let listing = std::fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut folders: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).filter(|path| is_op(path)).collect();
    folders.sort();
    Ok(folders)
}

fn is_op(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
    path.is_dir() && !name.starts_with('.') && !NO_OPS.contains(&name)
}

/// All `<op>/<file>.wgsl`, sorted, as paths from the shaders folder.
pub fn kernel_files(root: &Path) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    for folder in op_folders(root)? {
        let op = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let listing = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let names = listing.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        files.extend(names.filter(|name| name.ends_with(".wgsl")).map(|name| format!("{op}/{name}")));
    }
    files.sort();
    Ok(files)
}

/// Reads a file of the shaders folder.
pub fn read(root: &Path, file: &str) -> Result<String, String> {
    std::fs::read_to_string(root.join(file)).map_err(|error| format!("{file}: {error}"))
}

/// Which kernels the files make; `listing` is the content of `variants`.
pub fn variants(files: &[String], listing: &str) -> Result<Vec<Variant>, String> {
    let mut all = Vec::new();
    for (index, line) in listing.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(file) = words.next() else { continue };
        let at = |problem: &str| format!("variants:{}: {problem}", index + 1);
        if !files.iter().any(|known| known == file) {
            return Err(at(&format!("there is no file {file}")));
        }
        let name = words.next().ok_or_else(|| at("a kernel name is missing"))?;
        let defines: Option<Vec<_>> = words.map(|word| word.split_once('=').map(own)).collect();
        all.extend(listed(file, name, defines.ok_or_else(|| at("expected NAME=text"))?));
    }
    for file in files {
        if !all.iter().any(|variant| variant.file == *file) {
            let name = file.trim_end_matches(".wgsl").replace('/', "_");
            all.push(Variant { name, file: file.clone(), defines: Vec::new(), family: None });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    match all.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(format!("two variants are named {}", pair[0].name)),
        None => Ok(all),
    }
}

fn own((name, text): (&str, &str)) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

/// The variants of one line of the listing.
fn listed(file: &str, name: &str, defines: Vec<(String, String)>) -> Vec<Variant> {
    if !name.contains("{format}") {
        return vec![Variant { name: name.to_owned(), file: file.to_owned(), defines, family: None }];
    }
    let family = name.replace("_{format}", "");
    let one = |format: &str| Variant {
        name: name.replace("{format}", format),
        file: file.to_owned(),
        defines: defines.iter().cloned().chain([own(("FORMAT", format))]).collect(),
        family: Some(family.clone()),
    };
    FORMATS.map(one).into()
}

/// Expands `file` with `defines`.
///
/// # Errors
/// Names file and line of a directive that cannot be followed.
pub fn expand(root: &Path, file: &str, defines: &[(String, String)]) -> Result<Expanded, String> {
    let mut state =
        State { root, defines: defines.to_vec(), imported: vec![file.to_owned()], out: Expanded::default() };
    state.file(file)?;
    Ok(state.out)
}

struct State<'a> {
    root: &'a Path,
    defines: Vec<(String, String)>,
    imported: Vec<String>,
    out: Expanded,
}

impl State<'_> {
    fn file(&mut self, file: &str) -> Result<(), String> {
        let text = read(self.root, file)?;
        // One entry per open #ifdef: whether its lines are taken, and whether #else was seen.
        let mut open: Vec<(bool, bool)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let taken = open.iter().all(|(taken, _)| *taken);
            let trimmed = line.trim();
            let at = |problem: String| format!("{file}:{number}: {problem}");
            if let Some(directive) = trimmed.strip_prefix('#') {
                if !condition(directive, &mut open, |name| self.defined(name)).map_err(at)? && taken {
                    self.directive(directive).map_err(at)?;
                }
            } else if taken && !trimmed.is_empty() && !trimmed.starts_with("//") {
                let line = substitute(line, &self.defines);
                self.out.text.push_str(&line);
                self.out.text.push('\n');
                self.out.origins.push((file.to_owned(), number));
            }
        }
        if open.is_empty() { Ok(()) } else { Err(format!("{file}: #endif is missing")) }
    }

    fn directive(&mut self, directive: &str) -> Result<(), String> {
        let (word, rest) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
        match word {
            "import" => {
                let quoted = rest.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                let path = quoted.ok_or("expected #import \"path\"")?;
                let path = substitute(path, &self.defines);
                if !self.imported.contains(&path) {
                    self.imported.push(path.clone());
                    self.file(&path)?;
                }
                Ok(())
            }
            "define" => {
                let rest = rest.trim();
                let (name, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                if !is_identifier(name) {
                    return Err("expected #define NAME text".to_owned());
                }
                if self.defined(name) {
                    return Err(format!("{name} is already defined"));
                }
                self.defines.push(own((name, text.trim())));
                Ok(())
            }
            _ => Err(format!("unknown directive #{word}")),
        }
    }

    fn defined(&self, name: &str) -> bool {
        self.defines.iter().any(|(known, _)| known == name)
    }
}

/// Follows `#ifdef`, `#ifndef`, `#else` and `#endif`; false for any other directive.
fn condition(directive: &str, open: &mut Vec<(bool, bool)>, defined: impl Fn(&str) -> bool) -> Result<bool, String> {
    let mut words = directive.split_whitespace();
    match (words.next(), words.next()) {
        (Some("ifdef"), Some(name)) => open.push((defined(name), false)),
        (Some("ifndef"), Some(name)) => open.push((!defined(name), false)),
        (Some("else"), None) => match open.last_mut() {
            Some((taken, seen)) if !*seen => (*taken, *seen) = (!*taken, true),
            _ => return Err("#else without #ifdef".to_owned()),
        },
        (Some("endif"), None) => {
            open.pop().ok_or("#endif without #ifdef")?;
        }
        (Some("ifdef" | "ifndef" | "else" | "endif"), _) => return Err(format!("malformed #{directive}")),
        _ => return Ok(false),
    }
    Ok(true)
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(is_word)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Replaces whole identifiers that are defined.
fn substitute(line: &str, defines: &[(String, String)]) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let other = rest[word..].find(is_word).unwrap_or(rest.len() - word);
        let name = &rest[..word];
        out.push_str(defines.iter().find(|(known, _)| known == name).map_or(name, |(_, text)| text));
        out.push_str(&rest[word..word + other]);
        rest = &rest[word + other..];
    }
    out
}
