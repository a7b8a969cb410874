//! `loam compare`: quantised models beside the one they were made from.
//!
//! The windows of a text are those of llama-perplexity. They run in groups: first the reference, whose
//! log-probabilities of a group stay in memory, then one file after the other. So the weights of one model at a time
//! are on the device, and however long the text is, at most [`MEMORY`] bytes of log-probabilities are kept (one
//! window's at least).
//!
//! # Layout
//! - `measure`: the windows of a group with one model; `report`: what is shown

mod measure;
mod report;

use std::path::Path;

use loam::Base;
use loam::data::Example;
use loam::evaluate::windows;

use crate::args::CompareArgs;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::{dataset, model};
use measure::{Measured, Run};

/// Most bytes of log-probabilities of the reference that are kept.
const MEMORY: u64 = 512 << 20;

/// Runs the verb.
pub fn run(args: &CompareArgs) -> Result {
    let output = Output::new(args.json.json);
    let reference = Base::open(&args.reference)?;
    let files: Vec<Base> = args.files.iter().map(Base::open).collect::<loam::Result<_>>()?;
    for (file, path) in files.iter().zip(&args.files) {
        check(&reference, &args.reference, file, path)?;
    }
    // All models run in the context that the least of them was made for.
    let least = files.iter().chain([&reference]).min_by_key(|base| base.config().context).unwrap_or(&reference);
    let context = model::context(least, args.context)?;
    let windows = text(args, &reference, context, output)?;
    let vocabulary = reference.config().vocabulary;
    let each = (measure::scored(context) * vocabulary * size_of::<f32>()) as u64;
    let group = (MEMORY / each.max(1)).max(1) as usize;
    let mut progress = output.progress("windows", windows.len() * (files.len() + 1));
    let mut done = 0;
    let mut told = |windows: usize| {
        done += windows;
        progress.at(done);
    };
    let mut own = Measured::default();
    let mut measured = vec![Measured::default(); files.len()];
    for group in windows.chunks(group) {
        let run = Run { device: &args.device, windows: group, context, vocabulary };
        let kept = own.reference(&run, &reference, &mut told)?;
        for (file, measured) in files.iter().zip(&mut measured) {
            measured.beside(&run, file, &kept, &mut told)?;
        }
    }
    progress.finish()?;
    let named = |path: &Path, measured: &Measured| report::Row::new(path, measured);
    let rows = args.files.iter().zip(&measured).map(|(path, measured)| named(path, measured));
    let rows: Vec<report::Row> = rows.collect::<Result<_>>()?;
    report::print(output, &named(&args.reference, &own)?, &rows, (windows.len(), context))
}

/// Fails if the tokens of `file` are not those of the reference: nothing could be compared.
fn check(reference: &Base, reference_path: &Path, file: &Base, path: &Path) -> Result {
    if file.tokenizer()?.digest() == reference.tokenizer()?.digest()
        && file.config().vocabulary == reference.config().vocabulary
    {
        return Ok(());
    }
    let message = format!("{} has another tokenizer than {}", path.display(), reference_path.display());
    Err(Failure::new(message, "compare files that were converted from one model"))
}

/// The windows of the text.
fn text(args: &CompareArgs, base: &Base, context: usize, output: Output) -> Result<Vec<Example>> {
    let tokens = dataset::tokens(base, &args.data, output)?;
    let mut windows = windows(base.tokenizer()?, &tokens, context);
    if windows.is_empty() {
        let (shown, count) = (args.data.display(), tokens.len());
        let message = format!("{shown} has {count} tokens, windows of {context} need {} or more", context * 2);
        return Err(Failure::Usage(message));
    }
    windows.truncate(args.chunks.map_or(windows.len(), |most| most as usize));
    Ok(windows)
}
