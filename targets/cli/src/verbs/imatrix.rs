//! `loam imatrix`: how much each weight is used on calibration text.

use std::path::Path;
use std::time::Instant;

use loam::file::AtomicFile;
use loam::importance::{Collector, chunks};
use serde_json::json;

use crate::args::ImatrixArgs;
use crate::failure::{Failure, Result};
use crate::output::{Output, escape};
use crate::{dataset, memory, model};

/// Tokens of a piece, as llama-imatrix has it.
const CONTEXT: usize = 512;

/// Runs the verb.
pub fn run(args: &ImatrixArgs) -> Result {
    let output = Output::new(args.json.json);
    let file = AtomicFile::create(&args.output)?;
    let base = model::base(&args.base)?;
    let context = model::context_or(&base, args.context, CONTEXT)?;
    let tokens = dataset::tokens(&base, &args.data, output)?;
    let mut pieces = chunks(base.tokenizer()?, &tokens, context);
    if pieces.is_empty() {
        let message = format!("{} has {} tokens, a piece needs {context}", args.data.display(), tokens.len());
        return Err(Failure::Usage(message));
    }
    pieces.truncate(args.chunks.map_or(pieces.len(), |most| most as usize));
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

/// The name of a file without its folders.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
