//! Loading data files as the flags ask.

use std::path::{Path, PathBuf};

use loam::Base;
use loam::data::{self, DataOptions, Dataset, Records};
use loam::train::{Objective, objective};

use crate::failure::{Failure, Result};
use crate::output::Output;

/// Loads `paths` in order as one data set; what a user should know about them becomes notes.
pub fn load(base: &Base, paths: &[PathBuf], options: &DataOptions, output: Output) -> Result<Dataset> {
    let (tokenizer, template) = (base.tokenizer()?, base.template()?);
    let mut options = options.clone();
    let mut all: Option<Dataset> = None;
    for path in paths {
        let part = data::load(path, tokenizer, template, &options)?;
        for warning in part.notes.warnings() {
            output.warn(&format!("{}: {warning}", path.display()));
        }
        if !part.notes.spelled.is_empty() {
            output.warn("--control-tokens, or \"control_tokens\": true in a message, takes them as tokens");
        }
        // `--skip-bad N` allows N lines in all, not in each file.
        options.skip_bad -= part.notes.skipped.min(options.skip_bad);
        match &mut all {
            Some(all) => all.append(part),
            None => all = Some(part),
        }
    }
    all.ok_or_else(|| Failure::Usage("no data file is given".into()))
}

/// What is learned from `path` if no flag says: everything of a text file, the answers of a .jsonl file.
pub fn objective(path: &Path) -> &'static Objective {
    if is_text(path) { &objective::CLM } else { &objective::SFT }
}

/// Whether the file is one text.
pub fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt"))
}

/// Longest text that is read into memory, in bytes.
const MAX_TEXT: u64 = 1 << 30;

/// The tokens of a text after BOS where the tokenizer adds one, or those of all lines of a .jsonl file one after the
/// other.
pub fn tokens(base: &Base, path: &Path, output: Output) -> Result<Vec<u32>> {
    if objective(path).records == Records::Texts {
        let bytes = loam::file::read_bounded(path, MAX_TEXT)?;
        return Ok(base.tokenizer()?.encode(data::plain_text(path, &bytes)?, false, true)?);
    }
    let options = DataOptions::new(Records::Answers, base.config().context);
    let data = load(base, &[path.to_owned()], &options, output)?;
    Ok(data.examples.iter().flat_map(|example| example.tokens.iter().copied()).collect())
}
