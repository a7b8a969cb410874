//! Prompts with their reference answers, for measures that compare what a model generates.

use std::path::Path;

use super::encode::Encoder;
use super::lines::bad;
use super::{DataOptions, Example, Notes, RECORDS, each_record, extension};
use crate::Result;
use crate::chat::ChatTemplate;
use crate::option::OptionError;
use crate::problem::DataProblem;
use crate::tokenizer::Tokenizer;

/// A prompt and the answer that the data gives to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The tokens of the prompt as `chat` would send it: everything before the last assistant message.
    pub prompt: Vec<u32>,
    /// The text of that message.
    pub reference: String,
    /// Line of the file it came from, from 1.
    pub line: usize,
}

impl Pair {
    /// The first question of an example and its answer: the tokens before the first trained one, and the text of
    /// those that are trained from there on. Text that is trained as a whole is cut in the middle. `None` if there is
    /// nothing before or nothing after.
    pub fn split(example: &Example, tokenizer: &Tokenizer) -> Option<Pair> {
        let whole = example.trained.iter().skip(1).all(|&trained| trained);
        let first =
            if whole { example.tokens.len() / 2 } else { example.trained.iter().position(|&trained| trained)? };
        let length = example.trained[first..].iter().take_while(|&&trained| trained).count();
        let answer = match &example.tokens[first..first + length] {
            [text @ .., end] if tokenizer.is_end(*end) => text,
            all => all,
        };
        let (prompt, reference) = (example.tokens[..first].to_vec(), tokenizer.decode(answer));
        (first > 0).then_some(Pair { prompt, reference, line: example.line })
    }
}

/// The pairs of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs {
    /// In file order, one for each usable line.
    pub pairs: Vec<Pair>,
    /// What happened while loading.
    pub notes: Notes,
}

impl Pairs {
    /// Tokens that a session needs for any of the prompts and `max_tokens` of its answer, at most `limit`.
    pub fn context(&self, max_tokens: usize, limit: usize) -> usize {
        let longest = self.pairs.iter().map(|pair| pair.prompt.len()).max().unwrap_or(0);
        longest.saturating_add(max_tokens).min(limit)
    }
}

/// Loads the pairs of a file with messages or with prompts and completions. A line is bad if its prompt leaves no room
/// for an answer in the context; as many as the options allow are left out.
///
/// # Errors
/// [`crate::Error::File`]; [`crate::Error::Data`] naming file and line for bad lines beyond `skip_bad`, and with line 0
/// for plain text and for a file without a usable line; [`crate::Error::Option`] for a context below 2.
pub fn load_pairs(
    path: &Path,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    options: &DataOptions,
) -> Result<Pairs> {
    let context = options.context;
    if context < 2 {
        return Err(OptionError::range("context", context, "at least 2 tokens").into());
    }
    if !RECORDS.contains(&extension(path).as_str()) {
        let problem = "has no answers to compare with: messages, or prompt and completion, in a .jsonl file are needed";
        return Err(bad(path, 0, problem));
    }
    let encoder = Encoder { tokenizer, template, options };
    let (mut pairs, mut notes) = (Vec::new(), Notes::default());
    each_record(path, None, options, &mut notes, |line, record, _| {
        let (prompt, reference) = encoder.question(record)?;
        if prompt.is_empty() {
            return Err("the prompt has no tokens: there is nothing to answer".into());
        }
        if prompt.len() >= context {
            let length = prompt.len();
            return Err(format!("the prompt has {length} tokens: {context} have no room for an answer").into());
        }
        pairs.push(Pair { prompt, reference, line });
        Ok(())
    })?;
    if pairs.is_empty() {
        let problem = match notes.skipped {
            0 => DataProblem::Empty,
            skipped => DataProblem::NoUsableLine { skipped },
        };
        return Err(bad(path, 0, problem));
    }
    Ok(Pairs { pairs, notes })
}
