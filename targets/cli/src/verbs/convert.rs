//! `loam convert`: a Hugging Face folder or a GGUF model becomes a GGUF base.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use loam_convert::{Options, Plan, Progress, Summary};
use serde_json::{Map, Value, json};

use crate::args::ConvertArgs;
use crate::failure::Result;
use crate::output::{Output, bytes, escape};
use crate::verbs::pull;
use crate::{files, memory};

/// Runs the verb.
pub fn run(args: &ConvertArgs) -> Result {
    let output = Output::new(args.json.json);
    let source = pull::resolve(&args.source, output)?;
    let inputs: Vec<&Path> = [Some(&source), args.imatrix.as_ref()].into_iter().flatten().map(AsRef::as_ref).collect();
    files::check(&inputs, &[&args.output])?;
    let recipe = if args.pure { args.format.0.pure() } else { args.format.0 };
    let options = Options {
        threads: args.threads.map(usize::from),
        pre: args.pre.clone(),
        imatrix: args.imatrix.clone(),
        allow_nonfinite: args.allow_nonfinite,
        split_bytes: args.split_size,
        restart: args.restart,
        ..Options::new(recipe)
    };
    if args.plan {
        return plan(output, &loam_convert::plan(&source, &args.output, &options)?);
    }
    let start = Instant::now();
    let summary = convert(&source, &args.output, &options, output)?;
    report(output, &summary, start.elapsed().as_secs_f64())
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
            // The conversion continues; that standard error is closed is reported at the end.
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

/// What every report of a conversion, planned or done, begins with.
fn remarks(output: Output, summary: &Summary) {
    for note in &summary.notes {
        output.warn(note);
    }
    if let Some(note) = fallbacks(summary) {
        output.warn(&note);
    }
}

/// How many tensors have another type than was asked for, in a sentence.
fn fallbacks(summary: &Summary) -> Option<String> {
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    summary.fallbacks.iter().for_each(|(_, ty)| *types.entry(ty.name()).or_default() += 1);
    let counts = types.iter().map(|(name, count)| format!("{count} as {name}")).collect::<Vec<_>>().join(", ");
    let count = summary.fallbacks.len();
    let (tensors, are, their) = if count == 1 { ("tensor", "is", "its") } else { ("tensors", "are", "their") };
    let list = "--plan lists them";
    (count > 0).then(|| {
        format!("{count} {tensors} {are} stored otherwise, {counts}: {their} rows are no whole blocks ({list})")
    })
}

/// Number of tensors of each type.
fn types(summary: &Summary) -> String {
    let types: Vec<String> = summary.types.iter().map(|(ty, n)| format!("{n} x {}", ty.name())).collect();
    types.join(", ")
}

fn report(output: Output, summary: &Summary, seconds: f64) -> Result {
    remarks(output, summary);
    if summary.resumed > 0 {
        output.warn(&format!("{} of {} tensors were there from an interrupted run", summary.resumed, summary.tensors));
    }
    for file in &summary.files {
        output.line(format!("base     {}", escape(&file.to_string_lossy())))?;
    }
    output.line(format!("weights  {} in {} tensors ({})", summary.parameters, summary.tensors, types(summary)))?;
    output.line(format!("size     {}, written and read back in {seconds:.1} s", bytes(summary.bytes)))?;
    let mut result = result(summary);
    result["resumed"] = json!(summary.resumed);
    result["seconds"] = json!(seconds);
    result["peak_host_bytes"] = json!(memory::peak_host_bytes());
    output.object(&result)
}

/// What a conversion makes, for programs.
fn result(summary: &Summary) -> Value {
    let types: Map<_, _> = summary.types.iter().map(|(ty, n)| (ty.name().to_owned(), json!(n))).collect();
    let fallbacks: Map<_, _> = summary.fallbacks.iter().map(|(t, ty)| (t.clone(), json!(ty.name()))).collect();
    let files: Vec<_> = summary.files.iter().map(|file| file.to_string_lossy()).collect();
    json!({
        "event": "done", "output": files.first(), "files": files, "bytes": summary.bytes, "tensors": summary.tensors,
        "weights": summary.parameters, "types": types, "fallbacks": fallbacks, "notes": summary.notes,
    })
}

/// What a conversion would do.
fn plan(output: Output, plan: &Plan) -> Result {
    let summary = plan.summary();
    remarks(output, &summary);
    for tensor in &plan.tensors {
        let (name, shape) = (escape(&tensor.name), tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>());
        let fallback = if tensor.fallback { "  (fallback)" } else { "" };
        let size = bytes(tensor.bytes);
        output.line(format!("{name:<40} {:<8} {:<20} {size}{fallback}", tensor.ty.name(), shape.join(" x ")))?;
    }
    for shard in &plan.shards {
        output.line(format!("base     {}, {}", escape(&shard.path.to_string_lossy()), bytes(shard.bytes)))?;
    }
    output.line(format!("weights  {} in {} tensors ({})", summary.parameters, summary.tensors, types(&summary)))?;
    output.line(format!("size     {}", bytes(summary.bytes)))?;
    output.line(format!("memory   at most about {}", bytes(plan.peak_host_bytes)))?;
    let mut result = result(&summary);
    let tensors = plan.tensors.iter().map(
        |t| json!({"name": t.name, "shape": t.shape, "type": t.ty.name(), "bytes": t.bytes, "fallback": t.fallback}),
    );
    let files = plan.shards.iter().map(|s| json!({"path": s.path.to_string_lossy(), "bytes": s.bytes}));
    result["plan"] = json!({"tensors": tensors.collect::<Vec<_>>(), "files": files.collect::<Vec<_>>()});
    result["peak_host_bytes"] = json!(plan.peak_host_bytes);
    output.object(&result)
}
