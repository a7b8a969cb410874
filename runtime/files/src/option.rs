//! What is wrong with an option. Options go by the names of their fields, in Rust's spelling: what shows the error to a
//! person knows what the option is called there.

/// An option has a value that it cannot have, or that does not fit the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} {problem}")]
pub struct OptionError {
    /// The option's field: "lr", "group_by_length".
    pub option: &'static str,
    /// What is wrong with it.
    pub problem: OptionProblem,
}

/// What is wrong with an option. The text continues the option's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionProblem {
    /// The value is outside of its range.
    #[error("is {value}, it must be {range}")]
    Range {
        /// The value as given.
        value: String,
        /// What it may be: "positive", "from 1 to 7".
        range: String,
    },
    /// The value is none of the known names.
    #[error("{value:?} is not known; known: {known}")]
    Unknown {
        /// The value as given, cut short.
        value: String,
        /// The names, with commas.
        known: String,
    },
    /// It has no effect without another option.
    #[error("needs {0}")]
    Needs(&'static str),
    /// It contradicts another option.
    #[error("does not go with {0}")]
    Excludes(&'static str),
    /// Anything else: a sentence without its subject.
    #[error("{0}")]
    Other(String),
}

impl OptionError {
    /// `option` is `value` and must be `range`.
    pub fn range(option: &'static str, value: impl ToString, range: impl Into<String>) -> Self {
        let problem = OptionProblem::Range { value: value.to_string(), range: range.into() };
        OptionError { option, problem }
    }

    /// `option` is `value`, which is none of `known`.
    pub fn unknown(option: &'static str, value: &str, known: impl Into<String>) -> Self {
        /// A value is shown up to this length.
        const SHOWN: usize = 64;
        let problem = OptionProblem::Unknown { value: value.chars().take(SHOWN).collect(), known: known.into() };
        OptionError { option, problem }
    }

    /// `option` needs the option `other`.
    pub fn needs(option: &'static str, other: &'static str) -> Self {
        OptionError { option, problem: OptionProblem::Needs(other) }
    }

    /// `option` and `other` exclude each other.
    pub fn excludes(option: &'static str, other: &'static str) -> Self {
        OptionError { option, problem: OptionProblem::Excludes(other) }
    }

    /// `option` has a problem that is told in `problem`, a sentence without its subject.
    pub fn new(option: &'static str, problem: impl Into<String>) -> Self {
        OptionError { option, problem: OptionProblem::Other(problem.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sentences_with_field_names() {
        let told = |error: OptionError| error.to_string();
        assert_eq!(told(OptionError::range("lr", -1.0, "positive")), "lr is -1, it must be positive");
        assert_eq!(told(OptionError::needs("patience", "eval_every")), "patience needs eval_every");
        assert_eq!(told(OptionError::excludes("group_by_length", "pack")), "group_by_length does not go with pack");
        assert_eq!(told(OptionError::unknown("pre", "x\n", "gpt-2")), r#"pre "x\n" is not known; known: gpt-2"#);
    }
}
