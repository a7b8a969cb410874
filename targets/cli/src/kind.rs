//! What kind of failure an error is, in one word for programs: the `kind` of an `error` event (docs/events.md). Chosen
//! by the types of errors, never by their texts.

use std::error::Error;

/// The request makes no sense as typed.
pub const USAGE: &str = "usage";
/// A signal ended the work.
pub const INTERRUPTED: &str = "interrupted";

/// All kinds.
#[cfg(test)]
pub const ALL: [&str; 14] = [
    USAGE,
    INTERRUPTED,
    "file",
    "format",
    "mismatch",
    "data",
    "prompt",
    "text",
    "checkpoint",
    "device",
    "memory",
    "training",
    "network",
    "failed",
];

/// The kind of an error.
pub fn of(error: &(dyn Error + Send + Sync + 'static)) -> &'static str {
    if let Some(error) = error.downcast_ref::<loam::Error>() {
        runtime(error)
    } else if let Some(error) = error.downcast_ref::<loam_files::Error>() {
        file(error)
    } else if let Some(error) = error.downcast_ref::<loam_convert::Error>() {
        converter(error)
    } else {
        "failed"
    }
}

fn runtime(error: &loam::Error) -> &'static str {
    use loam::Error as E;
    match error {
        E::File(error) => file(error),
        E::Text(error) => text(error),
        E::Data { .. } => "data",
        E::Records { .. } | E::Argument(_) | E::Option(_) => USAGE,
        E::CheckpointMismatch { .. } => "mismatch",
        E::Checkpoint { .. } => "checkpoint",
        E::Stopped { .. } => INTERRUPTED,
        E::Device { .. } | E::DeviceLost { .. } => "device",
        E::OutOfMemory { .. } | E::CacheFull { .. } | E::OverBudget { .. } | E::Limit { .. } => "memory",
        E::PromptTooLong { .. } | E::NoTemplate { .. } | E::EmptyPrompt => "prompt",
        E::NonFinite(_) | E::Diverged(_) | E::Worse { .. } => "training",
        _ => "failed",
    }
}

fn file(error: &loam_files::Error) -> &'static str {
    use loam_files::Error as E;
    match error {
        E::Io { .. } | E::Changed { .. } | E::Cut { .. } => "file",
        E::BaseMismatch { .. } | E::OtherWeights { .. } => "mismatch",
        E::NonFinite(_) => "training",
        E::Threads(_) | E::Limit { .. } => "memory",
        _ => "format",
    }
}

fn text(error: &loam_text::Error) -> &'static str {
    match error {
        loam_text::Error::File(error) => file(error),
        loam_text::Error::Limit { .. } => "memory",
        _ => "text",
    }
}

fn converter(error: &loam_convert::Error) -> &'static str {
    use loam_convert::Error as E;
    match error {
        E::File(error) => file(error),
        E::Io { .. } | E::Busy { .. } | E::Verify { .. } | E::Kept { .. } => "file",
        E::Hub { .. } => "network",
        E::Argument(_) | E::Option(_) => USAGE,
        _ => "format",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_of_the_documentation() {
        let page = include_str!("../../../docs/events.md");
        for kind in ALL {
            assert!(page.contains(&format!("| `{kind}` |")), "docs/events.md does not name the kind {kind}");
        }
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let missing = loam_files::Error::Io { action: "open", path: "x".into(), source };
        assert_eq!(of(&loam::Error::File(missing)), "file");
        assert_eq!(of(&loam::Error::PromptTooLong { tokens: 2, context: 1 }), "prompt");
        assert_eq!(of(&std::fmt::Error), "failed");
    }
}
