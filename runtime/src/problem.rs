//! What is wrong with things, where what to do about it depends on it: what shows an error chooses its advice by these
//! types.

/// What is wrong with a line of a data file, or with the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataProblem {
    /// A line is not what a line can be.
    #[error("{0}")]
    Form(String),
    /// A line has other keys than those that are known.
    #[error("{problem}; found: {found}")]
    Keys {
        /// What was expected.
        problem: String,
        /// The keys that are there.
        found: String,
        /// How they could be mapped to the known ones.
        mapping: Option<String>,
    },
    /// A line is as it must be, but the chat template cannot write it.
    #[error("{0}")]
    Template(String),
    /// No line, or nothing but blank ones.
    #[error("the file is empty")]
    Empty,
    /// Every line was skipped.
    #[error("no usable line: {skipped} were skipped")]
    NoUsableLine {
        /// How many.
        skipped: usize,
    },
    /// Nothing of the examples is trained within the context.
    #[error("none of {examples} examples has a trained token within {context} tokens")]
    NothingTrained {
        /// How many examples there are.
        examples: usize,
        /// The context in tokens.
        context: usize,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl DataProblem {
    /// What is wrong with a record that a template or a tokenizer fails for.
    pub(crate) fn from_text(error: loam_text::Error) -> Self {
        match error {
            loam_text::Error::Template(_) => DataProblem::Template(error.to_string()),
            error => DataProblem::Other(crate::Error::from(error).chain()),
        }
    }

    /// The same, of message `index` from 0 of a conversation.
    pub(crate) fn in_message(self, index: usize) -> Self {
        self.named(&format!("message {}", index + 1))
    }

    /// The same, of a part of a record.
    pub(crate) fn named(self, part: &str) -> Self {
        match self {
            DataProblem::Template(problem) => DataProblem::Template(format!("{part}: {problem}")),
            problem => DataProblem::Other(format!("{part}: {problem}")),
        }
    }
}

/// What is wrong with a checkpoint, or a folder of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointProblem {
    /// There is one, and the run was not asked to continue from it.
    #[error("a run has left a checkpoint here, and it is not asked to go on from it")]
    NotAsked,
    /// It was written in another version of the format.
    #[error("was written by another version of loam: its format is {found}, this program knows {known}")]
    Version {
        /// The version of the file.
        found: u32,
        /// The one that is read.
        known: u32,
    },
    /// None in the folder can be used.
    #[error("no checkpoint in it can be used: {problems}")]
    NoneUsable {
        /// What is wrong with each.
        problems: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What is wrong with a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceProblem {
    /// It cannot multiply as asked.
    #[error("does not multiply in {wanted}")]
    Precision {
        /// The precision: "f16", "int8".
        wanted: &'static str,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Texts become the problem that has no variant of its own.
macro_rules! from_text {
    ($($problem:ident),*) => {$(
        impl From<String> for $problem {
            fn from(problem: String) -> Self {
                $problem::Other(problem)
            }
        }

        impl From<&str> for $problem {
            fn from(problem: &str) -> Self {
                $problem::Other(problem.to_owned())
            }
        }
    )*};
}

from_text!(DataProblem, CheckpointProblem, DeviceProblem);
