//! What happened while data was loaded, for the user to see.

use std::collections::BTreeMap;

/// Examples of skipped lines and of tokens kept for the report.
pub(super) const SHOWN: usize = 10;

/// What happened while loading, for the user to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Records read.
    pub records: usize,
    /// Bad lines left out.
    pub skipped: usize,
    /// The first of them: line and problem.
    pub problems: Vec<(usize, String)>,
    /// Examples cut to the context length.
    pub truncated: usize,
    /// Examples left out because no trained token remains.
    pub masked: usize,
    /// Conversations that became several examples, because the template rewrites earlier turns.
    pub divided: usize,
    /// Answers that the template writes otherwise than it asks for them: they do not follow the prompt that `chat`
    /// sends.
    pub unprompted: usize,
    /// Answers without an end-of-turn token after them.
    pub endless: usize,
    /// Answers that the template does not mark as generated, where it marks others.
    pub unmarked: usize,
    /// Thoughts of trained answers that the template does not write.
    pub thoughtless: usize,
    /// Contents of trained answers, beside calls, that the template does not write.
    pub contentless: usize,
    /// Records with tools that the template does not write.
    pub toolless: usize,
    /// Control tokens that trained answers and texts spell and that stay text, how often each.
    pub spelled: BTreeMap<String, usize>,
}

impl Notes {
    /// Adds what happened elsewhere.
    pub(super) fn add(&mut self, other: Notes) {
        self.records += other.records;
        self.skipped += other.skipped;
        self.problems.extend(other.problems);
        self.truncated += other.truncated;
        self.masked += other.masked;
        self.divided += other.divided;
        self.unprompted += other.unprompted;
        self.endless += other.endless;
        self.unmarked += other.unmarked;
        self.thoughtless += other.thoughtless;
        self.contentless += other.contentless;
        self.toolless += other.toolless;
        for (token, count) in other.spelled {
            *self.spelled.entry(token).or_default() += count;
        }
    }

    /// One line for each thing that a user should know.
    pub fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut note = |count: usize, what: &str| {
            if count > 0 {
                out.push(format!("{count} {what}"));
            }
        };
        note(self.truncated, "examples are longer than the context and were cut");
        note(self.masked, "examples have no trained token within the context and were left out");
        note(self.divided, "conversations became several examples: the chat template rewrites earlier turns");
        note(
            self.unprompted,
            "answers do not follow the prompt that chat sends: the chat template writes them otherwise",
        );
        note(self.endless, "answers have no end-of-turn token behind them: a model does not learn to stop from them");
        note(self.unmarked, "answers are not inside the chat template's {% generation %} marks and are not trained");
        note(self.thoughtless, "trained answers have a thought that the chat template does not write");
        note(
            self.contentless,
            "trained answers have a content that the chat template does not write beside their calls",
        );
        note(self.toolless, "records have tools that the chat template does not write");
        note(self.skipped, "bad lines were skipped");
        if !self.spelled.is_empty() {
            let count: usize = self.spelled.values().sum();
            let shown: Vec<String> =
                self.spelled.iter().take(SHOWN).map(|(token, count)| format!("{token:?} {count} times")).collect();
            let more = if self.spelled.len() > SHOWN { ", .." } else { "" };
            let shown = shown.join(", ");
            out.push(format!("{count} control tokens in what is trained are learned as their letters: {shown}{more}"));
        }
        out.extend(self.problems.iter().map(|(line, problem)| format!("  line {line}: {problem}")));
        out
    }
}
