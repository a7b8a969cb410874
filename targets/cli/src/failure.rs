//! How a verb ends badly: what is printed on standard error, and the exit code.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use loam::data::Records;
use loam::train::objective::ALL;

use crate::output::escape;

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
        /// What to do about it, without a full stop.
        hint: Option<String>,
    },
    /// Whoever read standard output has gone: nobody is left to tell.
    Closed,
}

impl Failure {
    /// A failure that has no error value behind it.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::Failed { error: message.into().into(), hint: Some(hint.into()) }
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
            Failure::Failed { error, hint } => {
                let mut chain = vec![error.to_string()];
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
            loam::Error::File(error @ loam_files::Error::OldImportance { .. }) => Failure::Usage(error.to_string()),
            error => Failure::Failed { hint: runtime_hint(&error), error: Box::new(error) },
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

impl From<loam_convert::Error> for Failure {
    fn from(error: loam_convert::Error) -> Self {
        match error {
            loam_convert::Error::File(error) => error.into(),
            loam_convert::Error::Argument(message) => Failure::Usage(message),
            error => Failure::Failed { hint: converter_hint(&error), error: Box::new(error) },
        }
    }
}

/// What to do with such records.
fn objectives_for(found: Records) -> String {
    let fitting = ALL.iter().filter(|objective| objective.records.takes(found)).map(|objective| objective.name);
    format!("give other data, or --objective {}", fitting.collect::<Vec<_>>().join(" or "))
}

/// What to do about an error of the converter. Most of its messages say it themselves.
fn converter_hint(error: &loam_convert::Error) -> Option<String> {
    use loam_convert::Error as E;
    let hint = match error {
        E::Io { source, .. } => return io_hint(source),
        E::Hub { problem, .. } => return hub_hint(problem),
        E::Busy { .. } => "wait for it to end, or pull into another folder with -o",
        E::Json { .. } | E::Safetensors { .. } => "the file is damaged or was edited; download it again",
        E::Source { .. } => "give a folder with config.json, *.safetensors and tokenizer.json, or a .gguf model",
        E::Verify { .. } => "the disk or the memory may be faulty; nothing was put in place",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about an error of a hub. What is not here tells it in the message.
fn hub_hint(problem: &loam_convert::hub::HubProblem) -> Option<String> {
    use loam_convert::hub::HubProblem as P;
    let hint = match problem {
        P::Network(_) | P::Timeout(_) | P::Short { .. } => {
            "check the network, the proxy and --endpoint; what came so far is kept, pulling again goes on from there"
        }
        P::Digest { .. } | P::Length { .. } => {
            "the server or something on the way sends wrong bytes; try another --endpoint"
        }
        P::Redirect(_) | P::Answer(_) => "check --endpoint and LOAM_ENDPOINT",
        P::Name { .. } => "do not trust this repository",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about an error of the runtime.
fn runtime_hint(error: &loam::Error) -> Option<String> {
    use loam::Error as E;
    let hint = match error {
        E::File(error) => return file_hint(error),
        E::Text(error) => return text_hint(error),
        E::Data { line: 0, problem, .. } => return whole_file_hint(problem),
        E::Data { problem, .. } => line_hint(problem),
        E::CheckpointMismatch { .. } => "give what the run was started with, or another --checkpoint-dir to begin anew",
        E::Checkpoint { problem, .. } if problem.contains("not asked") => {
            "--resume goes on from it; another --checkpoint-dir begins anew"
        }
        E::Checkpoint { .. } => "`loam inspect FILE` shows what is left of it; another --checkpoint-dir begins anew",
        E::Stopped { checkpoint: Some(_), .. } => "the same command with --resume goes on",
        E::Stopped { .. } => "--checkpoint-dir DIR keeps what is done",
        E::Device { .. } => "`loam devices` lists what there is; `--device cpu` runs anywhere",
        E::OutOfMemory { .. } => "use a smaller --batch or --context, or --device cpu",
        E::OverBudget { .. } => "raise --budget, or use a smaller --context or --rank",
        E::NonFinite(what) if what.contains("last step") || what.contains("held-out") => {
            "the training diverged and nothing was written; lower --lr, or write what there is with --force"
        }
        E::NonFinite(_) => "lower --lr, or check the base and the adapter with `loam eval`",
        E::Worse { .. } => "nothing was written; lower --lr or use more data, or write it all the same with --force",
        E::Limit { .. } => "use a smaller --batch or --context, or another device",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about an error with a file.
fn file_hint(error: &loam_files::Error) -> Option<String> {
    use loam_files::{Error as E, GgufProblem as P};
    let hint = match error {
        E::Io { path, source, .. } if path.extension().is_some_and(|ending| ending == "part") => {
            return part_hint(source);
        }
        E::Io { source, .. } => return io_hint(source),
        E::Gguf { problem: P::BadMagic, .. } => {
            "give a .gguf file; `loam convert FOLDER -o base.gguf` makes one from a Hugging Face model folder"
        }
        E::Gguf { .. } => "the file is damaged or lies about its contents; download or convert it again",
        E::Tensor { problem, .. } if problem.contains("cannot compute with") => {
            "loam computes with f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k to q6_k, iq4_nl, iq4_xs and mxfp4; \
             convert the original model to one of them"
        }
        E::Tensor { problem, .. } if problem.contains("not known to this architecture") => {
            "the model has parts that loam does not compute; README names the families that it does"
        }
        E::Metadata { .. } | E::Tensor { .. } => {
            "`loam inspect FILE --tensors` shows what the file holds; convert the model again if it is damaged"
        }
        E::Adapter { .. } => "`loam inspect FILE` shows what the adapter holds; train or import it again",
        E::BaseMismatch { .. } => "give the base that the adapter was trained on, or train it on this one",
        E::NonFinite(_) => "lower --lr, or check the base and the adapter with `loam eval`",
        E::Limit { .. } => "use a smaller --batch or --context, or another device",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about an error with text or tokens.
fn text_hint(error: &loam_text::Error) -> Option<String> {
    use loam_text::Error as E;
    let hint = match error {
        E::File(error) => return file_hint(error),
        E::Tokenizer(problem) if problem.contains("unknown pre-tokenizer") => {
            "the file is sound, but loam does not know how it splits text; `loam convert --pre NAME` names a way"
        }
        E::Tokenizer(problem) if problem.contains("are supported") => {
            "the file is sound, but loam cannot compute with its tokenizer; give a model with a BPE or SentencePiece one"
        }
        E::Template(_) => "--chat-template FILE uses another template instead of the one in the base",
        E::Tokenizer(_) => {
            "`loam inspect FILE --tensors` shows what the file holds; convert the model again if it is damaged"
        }
        E::Limit { .. } => "use a smaller --batch or --context, or another device",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What a line of a data file is.
const LINE_FORMAT: &str = "a line is {\"messages\":[{\"role\":..,\"content\":..},..]}, \
    {\"prompt\":..,\"completion\":..} or {\"text\":..}; --skip-bad N allows N wrong lines";

/// What to do about one line of a data file.
fn line_hint(problem: &str) -> &'static str {
    let shape = ["not valid JSON", "unexpected value", "expected exactly one of", "byte "];
    match problem {
        _ if shape.iter().any(|start| problem.starts_with(start)) => LINE_FORMAT,
        _ if problem.contains("template") => {
            "--chat-template FILE uses another template instead of the one in the base; --skip-bad N allows N wrong lines"
        }
        _ => "--skip-bad N allows N wrong lines",
    }
}

/// What to do about a data file as a whole. Messages about its name, emptiness or encoding say it themselves.
fn whole_file_hint(problem: &str) -> Option<String> {
    if problem.starts_with("no usable line") {
        return Some(LINE_FORMAT.to_owned());
    }
    let short = problem.starts_with("none of");
    short.then(|| "raise --context, or see that the conversations have answers".to_owned())
}

/// What to do about a failed system call on an unfinished download, which stays.
fn part_hint(error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind as K;
    let full = matches!(error.kind(), K::StorageFull | K::QuotaExceeded | K::FileTooLarge);
    if full { Some("free some space and pull again: it goes on where it ended".to_owned()) } else { io_hint(error) }
}

/// What to do about a failed system call.
fn io_hint(error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind as K;
    let hint = match error.kind() {
        K::NotFound => "check the path; loam does not create missing folders",
        K::PermissionDenied => "check who may read and write there",
        K::StorageFull | K::QuotaExceeded => "free some space or write to another disk; nothing half-written is left",
        K::IsADirectory => "give a file, not a folder",
        K::InvalidInput => "give a regular file: no folder, pipe or device",
        K::NotADirectory => "give a folder, not a file",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Says which files a signal has left for the next run of the same command.
pub fn interrupted(kept: &[PathBuf]) {
    let Some(first) = kept.iter().find(|path| path.extension().is_some_and(|e| e == "loam-part")) else { return };
    let first = escape(&first.to_string_lossy());
    // The program ends; nobody is left to tell that standard error is closed.
    let _ =
        writeln!(std::io::stderr().lock(), "interrupted: the same command goes on with {first}; --restart begins anew");
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
