//! `loam convert`: a Hugging Face folder becomes a GGUF base.

use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use loam_convert::{Options, Progress, Summary};
use serde_json::{Map, json};

use crate::args::ConvertArgs;
use crate::failure::Result;
use crate::output::{Output, bytes, escape};
use crate::{files, memory};

/// Runs the verb.
pub fn run(args: &ConvertArgs) -> Result {
    let output = Output::new(args.json.json);
    files::check(&[&args.source], &[&args.output])?;
    let options = Options {
        threads: args.threads.map(usize::from),
        pre: args.pre.clone(),
        allow_nonfinite: args.allow_nonfinite,
        ..Options::new(args.format.0)
    };
    let start = Instant::now();
    let summary = convert(&args.source, &args.output, &options, output)?;
    report(output, &summary, &args.output, start.elapsed().as_secs_f64())
}

/// Converts with a progress bar, or with one line of progress a second.
pub fn convert(source: &Path, out: &Path, options: &Options, output: Output) -> Result<Summary> {
    let bar = output.bar(0, "convert");
    let mut told = Instant::now();
    let mut failed = None;
    let mut show = |progress: Progress<'_>| {
        step(&bar, &progress);
        if told.elapsed().as_secs_f64() >= 1.0 {
            told = Instant::now();
            let event = json!({
                "event": "progress", "tensor": progress.index, "tensors": progress.tensors, "bytes": progress.bytes,
                "total_bytes": progress.total_bytes,
            });
            // The conversion goes on; that nobody listens any more is told at the end.
            failed = failed.take().or(output.object(&event).err());
        }
    };
    let summary = loam_convert::convert(source, out, options, &mut show)?;
    bar.finish_and_clear();
    failed.map_or(Ok(summary), Err)
}

fn step(bar: &ProgressBar, progress: &Progress<'_>) {
    bar.set_length(progress.tensors as u64);
    bar.set_position(progress.index as u64);
    bar.set_message(format!("{} of {}", bytes(progress.bytes), bytes(progress.total_bytes)));
}

fn report(output: Output, summary: &Summary, out: &Path, seconds: f64) -> Result {
    for note in &summary.notes {
        output.warn(note);
    }
    for (tensor, format) in &summary.fallbacks {
        output.warn(&format!("{tensor} is stored as {}: its rows are no whole blocks", format.name()));
    }
    let types: Vec<String> = summary.types.iter().map(|(format, n)| format!("{n} x {}", format.name())).collect();
    output.line(format!("base     {}", escape(&out.to_string_lossy())))?;
    output.line(format!("weights  {} in {} tensors ({})", summary.parameters, summary.tensors, types.join(", ")))?;
    output.line(format!("size     {}, written and read back in {seconds:.1} s", bytes(summary.bytes)))?;
    let types: Map<_, _> = summary.types.iter().map(|(format, n)| (format.name().to_owned(), json!(n))).collect();
    let fallbacks: Map<_, _> = summary.fallbacks.iter().map(|(t, f)| (t.clone(), json!(f.name()))).collect();
    output.object(&json!({
        "event": "done", "output": out.to_string_lossy(), "bytes": summary.bytes, "tensors": summary.tensors,
        "weights": summary.parameters, "types": types, "fallbacks": fallbacks, "notes": summary.notes,
        "seconds": seconds, "peak_host_bytes": memory::peak_host_bytes(),
    }))
}
