//! How a verb ends badly: what is printed on standard error, and the exit code.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use loam::data::Records;
use loam::train::objective::ALL;
use serde_json::json;

use crate::shown::{ascii_where_unsafe, escape, wants_json};
use crate::{flag, hint, kind};

/// Exit code of what a signal ended: 128 + SIGINT, as shells report it.
pub const INTERRUPTED: u8 = 130;

/// Result of a verb.
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Why a verb did not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The request makes no sense as typed: exit code 2.
    Usage(String),
    /// The work failed: exit code 1.
    Failed {
        /// What went wrong, with its causes.
        error: Box<dyn Error + Send + Sync>,
        /// What is said instead of the error itself, if it names options by their fields.
        told: Option<String>,
        /// What to do about it, without a full stop.
        hint: Option<String>,
    },
    /// Standard output is closed: there is no reader to tell.
    Closed,
}

impl Failure {
    /// A failure without an error value.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::Failed { error: message.into().into(), told: None, hint: Some(hint.into()) }
    }

    /// The exit code of the process.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Failed { error, .. } => match error.downcast_ref() {
                Some(loam::Error::Stopped { .. }) => INTERRUPTED,
                _ => 1,
            },
            Failure::Closed => 0,
        }
    }

    /// What went wrong, with its causes.
    pub fn message(&self) -> String {
        self.lines().0.join(": ")
    }

    /// The lines for standard error: the cause chain, then one hint.
    fn lines(&self) -> (Vec<String>, Option<&str>) {
        match self {
            Failure::Usage(message) => (vec![message.clone()], Some("run the verb with --help for its arguments")),
            Failure::Failed { error, told, hint } => {
                let mut chain = vec![told.clone().unwrap_or_else(|| error.to_string())];
                let mut next = error.source();
                while let Some(cause) = next {
                    let text = cause.to_string();
                    // Transparent wrappers repeat the message of what they wrap.
                    if chain.last() != Some(&text) {
                        chain.push(text);
                    }
                    next = cause.source();
                }
                (chain, hint.as_deref())
            }
            Failure::Closed => (Vec::new(), None),
        }
    }

    /// What kind of failure it is, in a word.
    fn kind(&self) -> &'static str {
        match self {
            Failure::Usage(_) => kind::USAGE,
            Failure::Failed { error, .. } => kind::of(error.as_ref()),
            Failure::Closed => "failed",
        }
    }

    /// Reports the failure: for people on standard error, with `--json` also as the last event of standard output.
    pub fn report(&self) {
        self.print();
        let hint = self.lines().1.map(str::to_owned);
        if !matches!(self, Failure::Closed) {
            event(self.kind(), &self.message(), hint.as_deref());
        }
    }

    /// Prints the failure on standard error. Text that came from files cannot reach the terminal raw.
    pub fn print(&self) {
        let mut stderr = std::io::stderr().lock();
        let color = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let (red, cyan, reset) = if color { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        let (chain, hint) = self.lines();
        let mut text = String::new();
        for (depth, message) in chain.iter().enumerate() {
            let label = if depth == 0 { "error" } else { "  caused by" };
            text += &format!("{red}{label}:{reset} {}\n", escape(message));
        }
        if let Some(hint) = hint {
            text += &format!("{cyan}hint:{reset} {}\n", escape(hint));
        }
        // Standard error is the last place to report to: if it is closed, the exit code has to do.
        let _ = stderr.write_all(text.as_bytes());
    }
}

impl From<loam::Error> for Failure {
    fn from(error: loam::Error) -> Self {
        match error {
            loam::Error::Argument(message) => Failure::Usage(message),
            loam::Error::Records { found, .. } => Failure::Usage(format!("{error}: {}", objectives_for(found))),
            loam::Error::Option(error) => Failure::Usage(flag::sentence(&error)),
            error => Failure::Failed { told: told(&error), hint: hint::runtime(&error), error: Box::new(error) },
        }
    }
}

impl From<loam_files::Error> for Failure {
    fn from(error: loam_files::Error) -> Self {
        loam::Error::from(error).into()
    }
}

impl From<loam_text::Error> for Failure {
    fn from(error: loam_text::Error) -> Self {
        loam::Error::from(error).into()
    }
}

/// An error that names options by their fields, with their flags.
fn told(error: &loam::Error) -> Option<String> {
    let loam::Error::CheckpointMismatch { path, what, expected, found } = error else { return None };
    let ((what, expected), (_, found)) = (flag::shown(what, expected.clone()), flag::shown(what, found.clone()));
    let path = path.display();
    Some(format!("checkpoint {path} is of another run: its {what} is {expected}, now it is {found}"))
}

impl From<loam_convert::Error> for Failure {
    fn from(error: loam_convert::Error) -> Self {
        match error {
            loam_convert::Error::File(error) => error.into(),
            loam_convert::Error::Argument(message) => Failure::Usage(message),
            loam_convert::Error::Option(error) => Failure::Usage(flag::sentence(&error)),
            error => Failure::Failed { told: None, hint: hint::converter(&error), error: Box::new(error) },
        }
    }
}

/// What to do with such records.
fn objectives_for(found: Records) -> String {
    let fitting = ALL.iter().filter(|objective| objective.records.takes(found)).map(|objective| objective.name);
    format!("give other data, or --objective {}", fitting.collect::<Vec<_>>().join(" or "))
}

/// The last event of standard output with `--json`; nothing without it.
pub fn event(kind: &str, message: &str, hint: Option<&str>) {
    // If standard output is closed, the exit code has to do.
    let told = json!({"event": "error", "kind": kind, "message": message, "hint": hint});
    if wants_json() {
        let _ = writeln!(std::io::stdout().lock(), "{}", ascii_where_unsafe(&told.to_string()));
    }
}

/// Says that a signal ended the work, and which files it has left for the next run of the same command.
pub fn interrupted(kept: &[PathBuf]) {
    event(kind::INTERRUPTED, "a signal ended the work", None);
    let Some(first) = kept.iter().find(|path| path.extension().is_some_and(|e| e == "loam-part")) else { return };
    let first = escape(&first.to_string_lossy());
    // The program ends; that standard error is closed cannot be shown.
    let _ = writeln!(
        std::io::stderr().lock(),
        "interrupted: the same command continues with {first}; --restart starts over"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_causes_once_and_ends_with_a_hint() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let failure = Failure::from(loam_files::Error::Io { action: "open", path: "x.gguf".into(), source });
        let (chain, hint) = failure.lines();
        assert_eq!(chain[0], "cannot open x.gguf");
        assert_eq!(chain.len(), 2);
        assert!(hint.is_some_and(|h| !h.ends_with('.')));
        assert_eq!(failure.code(), 1);
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        assert_eq!(Failure::from(loam::Error::Argument("no such target".into())).code(), 2);
    }
}
