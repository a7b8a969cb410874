//! The expander: WGSL files with a few line directives -> plain WGSL.
//!
//! | line | meaning |
//! |---|---|
//! | `#import "include/step.wgsl"` | inserts a file (path from the shaders folder), at most once per variant |
//! | `#import "include/x.wgsl" NAME=text ..` | inserts a file in which `NAME` stands for `text`, every time |
//! | `#define NAME text` | from here on the identifier `NAME` stands for `text` (may be empty), also in import paths |
//! | `#ifdef NAME`, `#ifndef NAME`, `#else`, `#endif` | conditional lines, may be nested |
//! | `#repeat i in 0..N`, `#endrepeat` | the lines between, for each `i`: `sum{i}` is `sum0`, `sum1`, ..; may be nested |
//!
//! Everything else is WGSL; whole-line comments, empty lines and indentation are left out. A definition replaces whole
//! identifiers only and its text is not searched again. Names are upper case by convention, those of repeats lower
//! case. Repeats are for variables that must be registers: WGSL has arrays, which compilers may put in slow memory, and
//! loops for the rest.

use std::path::Path;

/// Expanded text that remembers where its lines came from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Plain WGSL.
    pub text: String,
    /// File and line number of each line of `text`.
    pub origins: Vec<(String, usize)>,
}

/// Reads a file of the shaders folder.
pub fn read(root: &Path, file: &str) -> Result<String, String> {
    std::fs::read_to_string(root.join(file)).map_err(|error| format!("{file}: {error}"))
}

/// Expands `file` with `defines`.
///
/// # Errors
/// Names file and line of a directive that cannot be followed.
pub fn expand(root: &Path, file: &str, defines: &[(String, String)]) -> Result<Expanded, String> {
    let mut state = State {
        root,
        defines: defines.to_vec(),
        indices: Vec::new(),
        imported: vec![file.to_owned()],
        out: Expanded::default(),
    };
    state.file(file)?;
    Ok(state.out)
}

struct State<'a> {
    root: &'a Path,
    defines: Vec<(String, String)>,
    /// `{i}` of each repeat around the line, and its number.
    indices: Vec<(String, String)>,
    imported: Vec<String>,
    out: Expanded,
}

/// A line and its number.
type Line<'t> = (usize, &'t str);

impl State<'_> {
    fn file(&mut self, file: &str) -> Result<(), String> {
        let text = read(self.root, file)?;
        let lines: Vec<Line<'_>> = text.lines().enumerate().map(|(index, line)| (index + 1, line)).collect();
        self.lines(file, &lines)
    }

    /// Lines with whole conditions and repeats.
    fn lines(&mut self, file: &str, lines: &[Line<'_>]) -> Result<(), String> {
        // One entry per open #ifdef: whether its lines are taken, and whether #else was seen.
        let mut open: Vec<(bool, bool)> = Vec::new();
        let mut rest = lines;
        while let Some(((number, line), after)) = rest.split_first() {
            rest = after;
            let taken = open.iter().all(|(taken, _)| *taken);
            let at = |problem: String| format!("{file}:{number}: {problem}");
            let Some(directive) = line.trim().strip_prefix('#') else {
                if taken {
                    self.line(file, *number, line);
                }
                continue;
            };
            if condition(directive, &mut open, |name| self.defined(name)).map_err(at)? {
                continue;
            }
            if let Some(header) = directive.strip_prefix("repeat ") {
                let (body, after) = body(rest).map_err(at)?;
                rest = after;
                if taken {
                    let repeat = Repeat::parse(&self.filled(header)).map_err(at)?;
                    self.repeat(file, repeat, body)?;
                }
            } else if taken {
                self.directive(directive).map_err(at)?;
            }
        }
        if open.is_empty() { Ok(()) } else { Err(format!("{file}: #endif is missing")) }
    }

    /// A line of WGSL.
    fn line(&mut self, file: &str, number: usize, line: &str) {
        let trimmed = line.trim();
        if !trimmed.is_empty() && !trimmed.starts_with("//") {
            self.out.text.push_str(&self.filled(trimmed));
            self.out.text.push('\n');
            self.out.origins.push((file.to_owned(), number));
        }
    }

    fn repeat(&mut self, file: &str, repeat: Repeat, body: &[Line<'_>]) -> Result<(), String> {
        for index in repeat.range {
            self.indices.push((repeat.placeholder.clone(), index.to_string()));
            self.lines(file, body)?;
            self.indices.pop();
        }
        Ok(())
    }

    fn directive(&mut self, directive: &str) -> Result<(), String> {
        let (word, rest) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
        match word {
            "import" => self.import(rest.trim()),
            "define" => {
                let rest = rest.trim();
                let (name, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                if !is_identifier(name) {
                    return Err("expected #define NAME text".to_owned());
                }
                self.define(name, text.trim().to_owned())
            }
            "endrepeat" => Err("#endrepeat without #repeat".to_owned()),
            _ => Err(format!("unknown directive #{word}")),
        }
    }

    fn import(&mut self, rest: &str) -> Result<(), String> {
        let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let (path, arguments) = quoted.ok_or("expected #import \"path\"")?;
        let path = self.filled(path);
        let mut given = Vec::new();
        for argument in arguments.split_whitespace() {
            let (name, text) = argument.split_once('=').ok_or("expected #import \"path\" NAME=text")?;
            given.push((name, self.filled(text)));
        }
        for (name, text) in &given {
            self.define(name, text.clone())?;
        }
        if given.is_empty() {
            if self.imported.contains(&path) {
                return Ok(());
            }
            self.imported.push(path.clone());
        }
        self.file(&path)?;
        self.defines.retain(|(name, _)| given.iter().all(|(argument, _)| argument != name));
        Ok(())
    }

    fn define(&mut self, name: &str, text: String) -> Result<(), String> {
        if self.defined(name) {
            return Err(format!("{name} is already defined"));
        }
        self.defines.push((name.to_owned(), text));
        Ok(())
    }

    fn defined(&self, name: &str) -> bool {
        self.defines.iter().any(|(known, _)| known == name)
    }

    /// Text with its definitions, then with the numbers of the repeats around it.
    fn filled(&self, text: &str) -> String {
        let text = substitute(text, &self.defines);
        self.indices.iter().fold(text, |text, (placeholder, number)| text.replace(placeholder, number))
    }
}

/// What follows `#repeat`.
struct Repeat {
    /// `{i}`
    placeholder: String,
    range: std::ops::Range<usize>,
}

impl Repeat {
    fn parse(header: &str) -> Result<Self, String> {
        let parts =
            header.split_once(" in ").and_then(|(name, range)| Some((name.trim(), range.trim().split_once("..")?)));
        let numbers = parts.filter(|(name, _)| is_identifier(name)).and_then(|(name, (from, to))| {
            Some(Self { placeholder: format!("{{{name}}}"), range: from.parse().ok()?..to.parse().ok()? })
        });
        numbers.ok_or_else(|| "expected #repeat i in 0..4".to_owned())
    }
}

/// The lines up to the `#endrepeat` that belongs to the `#repeat` before them, and the lines after it.
fn body<'l, 't>(lines: &'l [Line<'t>]) -> Result<(&'l [Line<'t>], &'l [Line<'t>]), String> {
    let mut depth = 1;
    for (index, (_, line)) in lines.iter().enumerate() {
        match line.split_whitespace().next() {
            Some("#repeat") => depth += 1,
            Some("#endrepeat") => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok((&lines[..index], &lines[index + 1..]));
        }
    }
    Err("#endrepeat is missing".to_owned())
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
