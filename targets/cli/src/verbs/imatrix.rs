//! `loam imatrix`: how much each weight is used on calibration text.

use std::path::Path;
use std::time::Instant;

use loam::Base;
use loam::data::{DataOptions, Records};
use loam::file::AtomicFile;
use loam::importance::{Collector, chunks};
use serde_json::json;

use crate::args::ImatrixArgs;
use crate::failure::{Failure, Result};
use crate::output::{Output, escape};
use crate::{dataset, memory, model};

/// Tokens of a piece, as llama-imatrix has it.
const CONTEXT: usize = 512;
/// Longest text that is read into memory, in bytes.
const MAX_TEXT: u64 = 1 << 30;

/// Runs the verb.
pub fn run(args: &ImatrixArgs) -> Result {
    let output = Output::new(args.json.json);
    let file = AtomicFile::create(&args.output)?;
    let base = model::base(&args.base)?;
    let context = model::context_or(&base, args.context, CONTEXT)?;
    let tokens = tokens(args, &base, output)?;
    let mut pieces = chunks(base.tokenizer()?, &tokens, context);
    if pieces.is_empty() {
        let message = format!("{} has {} tokens, a piece needs {context}", args.data.display(), tokens.len());
        return Err(Failure::Usage(message));
    }
    pieces.truncate(args.chunks.map_or(pieces.len(), |most| (most as usize).max(1)));
    let start = Instant::now();
    let mut engine = model::engine(&base, &args.device)?;
    let mut collector = pollster::block_on(Collector::new(&base, &mut engine, context))?;
    let bar = output.bar(pieces.len() as u64, "imatrix");
    for (index, piece) in pieces.iter().enumerate() {
        pollster::block_on(collector.run(&mut engine, piece))?;
        bar.set_position(index as u64 + 1);
        output.object(&json!({"event": "progress", "chunk": index + 1, "chunks": pieces.len()}))?;
    }
    bar.finish_and_clear();
    let device = engine.backend.info().name.clone();
    let importance = collector.finish(vec![name(&args.data)]);
    importance.write_to(file)?;
    let unseen = importance.entries.values().filter(|entry| entry.counts.contains(&0.0)).count();
    if unseen > 0 {
        output.warn(&format!(
            "no token was sent to some experts of {unseen} weights; more text would reach more of them"
        ));
    }
    let (entries, seconds) = (importance.entries.len(), start.elapsed().as_secs_f64());
    output.line(format!("importance  {}", escape(&args.output.to_string_lossy())))?;
    output.line(format!("weights     {entries}, {} pieces of {context} tokens in {seconds:.1} s", pieces.len()))?;
    output.object(&json!({
        "event": "done", "output": args.output.to_string_lossy(), "entries": entries, "chunks": pieces.len(),
        "unseen": unseen, "tokens": pieces.len() * context, "seconds": seconds, "peak_host_bytes": memory::peak_host_bytes(),
        "device": device,
    }))
}

/// The tokens of a text, or of all lines of a .jsonl file one after the other.
fn tokens(args: &ImatrixArgs, base: &Base, output: Output) -> Result<Vec<u32>> {
    if dataset::objective(&args.data).records == Records::Texts {
        let bytes = loam::file::read_bounded(&args.data, MAX_TEXT)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| Failure::Usage(format!("{} is not UTF-8: {error}", args.data.display())))?;
        return Ok(base.tokenizer()?.encode(&text, false, true)?);
    }
    let options = DataOptions::new(Records::Answers, base.config().context);
    let data = dataset::load(base, std::slice::from_ref(&args.data), &options, output)?;
    Ok(data.examples.iter().flat_map(|example| example.tokens.iter().copied()).collect())
}

/// The name of a file without its folders.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
