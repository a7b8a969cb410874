//! Training and evaluation data: files to token examples to batches.
//!
//! `.jsonl`: one object a line (`.json`: an array of them; `.csv`, `.tsv`: a table of them), `{"messages": [..]}`,
//! `{"prompt", "completion"}`, `{"prompt", "chosen", "rejected"}` or `{"text"}`. `.txt`: one document.
//! A bad line is an error that names file and line, unless [`DataOptions::skip_bad`] allows some.

mod batch;
mod encode;
mod items;
mod lengths;
mod lines;
mod mapping;
mod notes;
mod order;
mod pairs;
mod preference;
mod record;
mod turns;
mod written;

pub use batch::{Batch, BatchOptions, Batches, OptimizerStep};
pub use mapping::Mapping;
pub use notes::Notes;
pub use order::permutation;
pub use pairs::{Pair, Pairs, load_pairs};

use std::fmt;
use std::path::Path;

use crate::chat::ChatTemplate;
use crate::digest::sha256_hex;
use crate::file::read_bounded;
use crate::option::OptionError;
use crate::problem::DataProblem;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use encode::Encoder;
use lines::{Lines, bad};
use notes::SHOWN;
use record::Record;

/// Largest .txt file: it is tokenised as one text in memory.
const TEXT_LIMIT: u64 = 1 << 28;

/// The records that are learned from, and which of their tokens are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Records {
    /// Prompts or conversations with answers: the assistant's tokens only, in every turn.
    #[default]
    Answers,
    /// Texts: every token. Conversations are texts too.
    Texts,
    /// Prompts with a better and a worse answer: the answers' tokens only. Each record becomes two sequences, the
    /// better one first.
    Preferences,
}

impl Records {
    /// Sequences that a record becomes. They are neighbours in a data set and share a micro-batch.
    pub fn sequences(self) -> usize {
        if self == Records::Preferences { 2 } else { 1 }
    }

    /// Whether `found` can be learned from.
    pub fn takes(self, found: Records) -> bool {
        self == found || (self, found) == (Records::Texts, Records::Answers)
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Records::Answers => "answers (messages, or prompt and completion)",
            Records::Texts => "texts",
            Records::Preferences => "preferences (prompt, chosen and rejected)",
        })
    }
}

/// How files become examples.
#[derive(Debug, Clone)]
pub struct DataOptions {
    /// What is learned from.
    pub records: Records,
    /// Longest example in tokens, at least 2.
    pub context: usize,
    /// How many bad lines per file are skipped instead of ending the load.
    pub skip_bad: usize,
    /// For [`Records::Texts`]: a window of `context` tokens starts every `stride` tokens, from 1 to `context - 1`, and
    /// trains what no window before it had. So each token after the first window sees at least `context - stride`
    /// tokens; all windows are held in memory. `None` is `context - 1`: windows share one token.
    pub stride: Option<usize>,
    /// Control tokens that trained answers and texts spell are taken as tokens; otherwise they are text.
    pub control_tokens: bool,
    /// Which keys of the file stand for which of ours; `None`: it has ours.
    pub mapping: Option<Mapping>,
}

impl DataOptions {
    /// Options without skipped lines and with windows that share one token.
    pub fn new(records: Records, context: usize) -> Self {
        DataOptions { records, context, skip_bad: 0, stride: None, control_tokens: false, mapping: None }
    }

    fn check(&self) -> Result<()> {
        if self.context < 2 {
            return Err(OptionError::range("context", self.context, "at least 2 tokens").into());
        }
        let Some(stride) = self.stride else { return Ok(()) };
        if self.records != Records::Texts {
            let problem = "is for windows over plain text: it needs the objective clm";
            return Err(OptionError::new("stride", problem).into());
        }
        if stride == 0 || stride >= self.context {
            let range = format!("from 1 to {}, less than the context", self.context - 1);
            return Err(OptionError::range("stride", stride, range).into());
        }
        Ok(())
    }
}

/// A sequence of tokens, and which of them the model is trained to predict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// At least 2, at most the context length.
    pub tokens: Vec<u32>,
    /// Per token: whether it counts in the loss when it is the next token. The first one never does.
    pub trained: Vec<bool>,
    /// Line of the file it came from, from 1; several examples can share one.
    pub line: usize,
    /// Tokens that were cut off its end.
    pub cut: usize,
}

impl Example {
    /// Number of tokens that count in the loss.
    pub fn trained_tokens(&self) -> usize {
        self.trained.iter().skip(1).filter(|&&trained| trained).count()
    }
}

/// Examples with their provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// What records they are of: so many examples in turn are one.
    pub records: Records,
    /// In file order.
    pub examples: Vec<Example>,
    /// What happened while loading.
    pub notes: Notes,
    /// SHA-256 (hex) of the file; of several files, over their digests.
    pub digest: String,
}

/// Loads one data file.
///
/// # Errors
/// [`Error::File`]; [`Error::Data`] naming file and line for bad lines beyond `skip_bad`, for files that are no text,
/// and with line 0 for a file without any example or without any trained token; [`Error::Option`] for a context below 2
/// or a stride that is out of its range or not for these records; [`Error::Records`].
pub fn load(
    path: &Path,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    options: &DataOptions,
) -> Result<Dataset> {
    options.check()?;
    let encoder = Encoder { tokenizer, template, options };
    let dataset = match extension(path).as_str() {
        "txt" => load_text(path, &encoder)?,
        ending if RECORDS.contains(&ending) => load_records(path, &encoder)?,
        _ => {
            let problem = "the name must end in .jsonl (one JSON object a line), .json (an array of them), .csv or .tsv (a \
                 table with names in its first line), or .txt (one document)";
            return Err(bad(path, 0, problem));
        }
    };
    if dataset.examples.is_empty() {
        let problem = match dataset.notes {
            Notes { records: 0, skipped: 0, .. } => DataProblem::Empty,
            Notes { masked: 0, skipped, .. } => DataProblem::NoUsableLine { skipped },
            Notes { masked: examples, .. } => DataProblem::NothingTrained { examples, context: options.context },
        };
        return Err(bad(path, 0, problem));
    }
    Ok(dataset)
}

/// Endings of files that hold records.
const RECORDS: [&str; 4] = ["jsonl", "json", "csv", "tsv"];

/// What a file's name ends in, in lower case.
fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

fn load_records(path: &Path, encoder: &Encoder<'_>) -> Result<Dataset> {
    let (mut examples, mut notes) = (Vec::new(), Notes::default());
    let records = encoder.options.records;
    let digest = each_record(path, Some(records), encoder.options, &mut notes, |line, record, notes| {
        // A record with a problem leaves no trace.
        let (before, mut seen, mut fitted, mut count) = (examples.len(), Notes::default(), Notes::default(), 0);
        let result = encoder.encode(record, &mut seen, &mut |example| {
            count += 1;
            fit(example, line, encoder.options, &mut examples, &mut fitted);
        });
        if result.is_err() {
            examples.truncate(before);
            return result;
        }
        if fitted.masked > 0 && records.sequences() > 1 {
            // A record with only some of its sequences is none.
            examples.truncate(before);
            fitted.masked = count;
        }
        seen.divided += usize::from(count > records.sequences());
        notes.add(seen);
        notes.add(fitted);
        Ok(())
    })?;
    Ok(Dataset { records: encoder.options.records, examples, notes, digest })
}

/// Reads a file of records, hands each with its line to `take`, and returns the digest of the file. A line that is no
/// record or none that is `wanted`, or that `take` has a problem with, is bad; as many as the options allow are only
/// noted.
fn each_record(
    path: &Path,
    wanted: Option<Records>,
    options: &DataOptions,
    notes: &mut Notes,
    mut take: impl FnMut(usize, &Record, &mut Notes) -> Result<(), DataProblem>,
) -> Result<String> {
    each_line(path, |line, bytes| {
        let record = record::parse(bytes, options.mapping.as_ref());
        let other =
            wanted.zip(record.as_ref().ok().map(Record::records)).filter(|(wanted, found)| !wanted.takes(*found));
        let taken = match other {
            Some((wanted, found)) => Err(DataProblem::Form(format!("has {found}, not {wanted}"))),
            None => record.and_then(|record| take(line, &record, notes)),
        };
        match taken {
            Ok(()) => notes.records += 1,
            Err(problem) => {
                notes.skipped += 1;
                if notes.skipped > options.skip_bad {
                    let path = path.to_owned();
                    return Err(match other {
                        Some((wanted, found)) => Error::Records { path, line, found, wanted },
                        None => bad(&path, line, problem),
                    });
                }
                if notes.problems.len() < SHOWN {
                    notes.problems.push((line, problem.to_string()));
                }
            }
        }
        Ok(())
    })
}

/// Hands each line of a .jsonl file, each element of a JSON array, or each row of a table to `take`, with its line.
fn each_line(path: &Path, mut take: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<String> {
    let ending = extension(path);
    if ending == "jsonl" {
        let mut lines = Lines::open(path)?;
        while let Some((line, bytes)) = lines.next()? {
            take(line, bytes)?;
        }
        return Ok(lines.digest());
    }
    let bytes = read_bounded(path, TEXT_LIMIT)?;
    lines::check_start(path, &bytes)?;
    let content = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if ending == "json" {
        for item in items::elements(content).map_err(|problem| bad(path, 0, problem))? {
            take(item.line, &content[item.range])?;
        }
    } else {
        let text = utf8(path, content)?;
        let separator = if ending == "tsv" { '\t' } else { ',' };
        for row in items::rows(text, separator).map_err(|row| bad(path, row.line, row.problem))? {
            take(row.line, row.object.as_bytes())?;
        }
    }
    Ok(sha256_hex(&bytes))
}

fn utf8<'b>(path: &Path, content: &'b [u8]) -> Result<&'b str> {
    std::str::from_utf8(content).map_err(|error| {
        let line = 1 + content[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        bad(path, line, "is not UTF-8")
    })
}

/// The text of a file, without a byte order mark.
///
/// # Errors
/// What is no text: a pointer of Git LFS, UTF-16, bytes that are no UTF-8.
pub fn plain_text<'b>(path: &Path, bytes: &'b [u8]) -> Result<&'b str> {
    lines::check_start(path, bytes)?;
    utf8(path, bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}

fn load_text(path: &Path, encoder: &Encoder<'_>) -> Result<Dataset> {
    let wanted = encoder.options.records;
    if !wanted.takes(Records::Texts) {
        return Err(Error::Records { path: path.to_owned(), line: 0, found: Records::Texts, wanted });
    }
    let bytes = read_bounded(path, TEXT_LIMIT)?;
    let digest = sha256_hex(&bytes);
    let text = plain_text(path, &bytes)?;
    let (mut examples, mut notes) = (Vec::new(), Notes::default());
    if !text.trim().is_empty() {
        notes.records = 1;
        // The end of a file is no end of a text: no EOS.
        fit(encoder.document(text, false, &mut notes)?, 1, encoder.options, &mut examples, &mut notes);
    }
    Ok(Dataset { records: encoder.options.records, examples, notes, digest })
}

/// Makes an example fit the context and adds it. Plain text is cut into windows that overlap, so that every token but
/// the first is trained exactly once; a conversation loses its end.
fn fit(mut example: Example, line: usize, options: &DataOptions, examples: &mut Vec<Example>, notes: &mut Notes) {
    example.line = line;
    let length = example.tokens.len();
    if options.records == Records::Texts {
        let stride = options.stride.unwrap_or(options.context - 1);
        // `seen`: how many tokens the windows so far hold.
        let (mut start, mut seen) = (0, 0);
        while length > 1 && seen < length {
            let end = length.min(start + options.context);
            let tokens = example.tokens[start..end].to_vec();
            let trained = (start..end).map(|t| t >= seen && example.trained[t]).collect();
            examples.push(Example { tokens, trained, line, cut: 0 });
            (start, seen) = (start + stride, end);
        }
        notes.masked += usize::from(length < 2);
        return;
    }
    if length > options.context {
        notes.truncated += 1;
        example.cut = length - options.context;
        example.tokens.truncate(options.context);
        example.trained.truncate(options.context);
    }
    if example.trained_tokens() == 0 {
        notes.masked += 1;
    } else {
        examples.push(example);
    }
}

impl Dataset {
    /// Adds the examples of another file.
    pub fn append(&mut self, other: Dataset) {
        self.digest = sha256_hex(format!("{} {}", self.digest, other.digest).as_bytes());
        self.examples.extend(other.examples);
        self.notes.add(other.notes);
    }

    /// Tokens of all examples.
    pub fn tokens(&self) -> usize {
        self.examples.iter().map(|example| example.tokens.len()).sum()
    }

    /// Tokens that count in the loss.
    pub fn trained_tokens(&self) -> usize {
        self.examples.iter().map(Example::trained_tokens).sum()
    }

    /// All examples in file order in micro-batches of `batch` records of `context` tokens, packed if they are of one
    /// sequence, for evaluation.
    ///
    /// # Errors
    /// As [`Batches::new`].
    pub fn in_order(&self, batch: usize, context: usize) -> Result<Vec<Batch>> {
        let steps = self.evaluation(batch, context)?.epoch(0).collect::<Result<Vec<_>>>()?;
        Ok(steps.into_iter().flat_map(|step| step.micro).collect())
    }

    /// As [`Self::in_order`], to be made one after the other: each is a step of one micro-batch.
    ///
    /// # Errors
    /// As [`Batches::new`].
    pub fn evaluation(&self, batch: usize, context: usize) -> Result<Batches<'_>> {
        let sequences = self.records.sequences();
        let options = BatchOptions {
            sequences,
            batch,
            accumulate: 1,
            context,
            pack: sequences == 1,
            shuffle: false,
            seed: 0,
            group_by_length: false,
            lengths: None,
        };
        Batches::new(&self.examples, options)
    }

    /// Takes about `fraction` of the lines out for evaluation, chosen by `seed`. Examples of a line stay together; in a
    /// data set of one line (a text file) single windows are taken. Both parts keep their order and get at least one.
    ///
    /// # Errors
    /// [`Error::Argument`] for a fraction that is not between 0 and 1, or fewer than two examples.
    pub fn split_eval(self, fraction: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(OptionError::range("eval_split", fraction, "between 0 and 1").into());
        }
        let mut group = Vec::with_capacity(self.examples.len());
        let one_line = self.examples.iter().all(|e| e.line == self.examples[0].line);
        let sequences = self.records.sequences();
        for (i, example) in self.examples.iter().enumerate() {
            let begins = i % sequences == 0;
            let next =
                |&last: &usize| last + usize::from(begins && (one_line || example.line != self.examples[i - 1].line));
            group.push(group.last().map_or(0, next));
        }
        let groups = group.last().map_or(0, |last| last + 1);
        if groups < 2 {
            return Err(OptionError::new("eval_split", "takes from at least two examples").into());
        }
        let count = ((groups as f64 * fraction).round() as usize).clamp(1, groups - 1);
        let mut chosen = vec![false; groups];
        permutation(groups, seed, order::EVAL_STREAM).into_iter().take(count).for_each(|g| chosen[g] = true);
        let (mut train, mut eval) = (Vec::new(), Vec::new());
        for (example, group) in self.examples.into_iter().zip(group) {
            if chosen[group] { eval.push(example) } else { train.push(example) }
        }
        let eval = Dataset { examples: eval, notes: Notes::default(), digest: self.digest.clone(), ..self };
        Ok((Dataset { examples: train, notes: self.notes, digest: self.digest, ..self }, eval))
    }
}

#[cfg(test)]
mod tests;
