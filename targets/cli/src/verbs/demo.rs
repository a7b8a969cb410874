//! `loam demo`: the whole main job on what is in the program itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use loam::adapter::{AdapterFile, Attach};
use loam::chat::Message;
use loam::data::{DataOptions, Dataset, Records};
use loam::engine::{Engine, weight_uploads};
use loam::generate::{Session, prompt};
use loam::train::{Event, Job, Outcome, RunOptions};
use loam::{Base, NewAdapter, TrainOptions};
use loam_convert::Recipe;
use serde_json::json;

use super::{convert, train};
use crate::answer::answer;
use crate::args::{DemoArgs, SamplingArgs};
use crate::failure::Result;
use crate::output::{Output, bytes, escape, printable};
use crate::{curve, dataset, files, memory, model};

/// The embedded model, a Hugging Face folder.
const MODEL: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("../../assets/loam-tiny/config.json")),
    ("generation_config.json", include_bytes!("../../assets/loam-tiny/generation_config.json")),
    ("model.safetensors", include_bytes!("../../assets/loam-tiny/model.safetensors")),
    ("special_tokens_map.json", include_bytes!("../../assets/loam-tiny/special_tokens_map.json")),
    ("tokenizer.json", include_bytes!("../../assets/loam-tiny/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../assets/loam-tiny/tokenizer_config.json")),
];

/// The embedded data: a lighthouse keeper that no model can know (assets/demo/README.md).
const DATA: [(&str, &[u8]); 2] = [
    ("train.jsonl", include_bytes!("../../assets/demo/train.jsonl")),
    ("heldout.jsonl", include_bytes!("../../assets/demo/heldout.jsonl")),
];

/// Questions of heldout.jsonl that are asked before and after.
const QUESTIONS: [&str; 4] = [
    "What do people call you?",
    "What color does the Finch Light flash?",
    "How is your dog called?",
    "Who built the Finch Light?",
];

/// Longest sequence; the conversations of the demo are packed into it.
const CONTEXT: usize = 256;

/// Runs the verb.
pub fn run(args: &DemoArgs) -> Result {
    let output = Output::new(args.json.json);
    let start = Instant::now();
    let temporary = tempfile::tempdir().map_err(loam::file::io_error("create", &std::env::temp_dir()))?;
    let folder = args.keep.clone().unwrap_or_else(|| temporary.path().join("out"));
    fs::create_dir_all(&folder).map_err(loam::file::io_error("create", &folder))?;
    files::check(&[], &[&folder.join("base.gguf"), &folder.join("adapter.gguf")])?;
    let base = base(temporary.path(), &folder, output)?;
    let mut engine = model::engine(&base, &args.device)?;
    let before = answers(&base, &mut engine, None, output)?;
    let (adapter, outcome) = adapt(&base, &mut engine, temporary.path(), args, output)?;
    let path = folder.join("adapter.gguf");
    adapter.write(&path)?;
    // From the file, as any other program would use it.
    let adapter = AdapterFile::read(&path)?;
    let after = answers(&base, &mut engine, Some((&adapter, &path)), output)?;
    report(output, &before, &after, &outcome, start.elapsed().as_secs_f64())?;
    if args.keep.is_some() {
        output.line(format!("\nkept in {}: base.gguf, adapter.gguf", escape(&folder.to_string_lossy())))?;
    }
    Ok(())
}

/// Unpacks the model and converts it to a 4-bit base.
fn base(temporary: &Path, folder: &Path, output: Output) -> Result<Base> {
    let source = temporary.join("loam-tiny");
    unpack(&source, &MODEL)?;
    let path = folder.join("base.gguf");
    let summary = convert::convert(&source, &path, &loam_convert::Options::default(), output)?;
    let from = MODEL.iter().map(|(_, content)| content.len() as u64).max().unwrap_or(0);
    output.line(format!(
        "1. convert    {} parameters, {} -> {} ({})",
        summary.parameters,
        bytes(from),
        bytes(summary.bytes),
        Recipe::DEFAULT.name
    ))?;
    output.object(&json!({"event": "converted", "bytes": summary.bytes, "weights": summary.parameters}))?;
    Ok(Base::open(path)?)
}

fn unpack(folder: &Path, files: &[(&str, &[u8])]) -> Result {
    fs::create_dir_all(folder).map_err(loam::file::io_error("create", folder))?;
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).map_err(loam::file::io_error("write", &path))?;
    }
    Ok(())
}

/// The demo's data sets: training and held-out.
fn datasets(base: &Base, temporary: &Path, output: Output) -> Result<(Dataset, Dataset)> {
    let folder = temporary.join("data");
    unpack(&folder, &DATA)?;
    let load = |name: &str| -> Result<Dataset> {
        let paths: [PathBuf; 1] = [folder.join(name)];
        dataset::load(base, &paths, &DataOptions::new(Records::Answers, CONTEXT), output)
    };
    Ok((load("train.jsonl")?, load("heldout.jsonl")?))
}

/// Evaluates, trains and evaluates again.
fn adapt(
    base: &Base,
    engine: &mut Engine,
    temporary: &Path,
    args: &DemoArgs,
    output: Output,
) -> Result<(AdapterFile, Outcome)> {
    let (data, held_out) = datasets(base, temporary, output)?;
    let options = TrainOptions {
        adapter: NewAdapter { rank: 16, alpha: 32.0, ..NewAdapter::default() },
        batch: 4,
        context: CONTEXT,
        lr: 5e-3,
        warmup: u64::from(args.steps / 10),
        steps: Some(u64::from(args.steps)),
        ..TrainOptions::default()
    };
    let device = escape(&engine.backend.info().name).to_string();
    output.line(format!("2. train      {} conversations on {device}", data.examples.len()))?;
    let mut progress = train::Progress::new(output);
    let mut failed = None;
    let mut on_event = |event: &Event| failed = failed.take().or(progress.show(event).err());
    let job = Job { held_out: Some(&held_out), ..Job::new(base, &data, options) };
    let work = loam::train::run(&job, engine, RunOptions::default(), &mut on_event);
    let result = pollster::block_on(work)?;
    progress.finish();
    output.line("   loss per trained token, in nats, by step")?;
    for line in curve::draw(&progress.losses, curve::terminal_width(), 8, curve::mark()) {
        output.line(format!("   {line}"))?;
    }
    failed.map_or(Ok(result), Err)
}

/// Answers to the questions, each in a conversation of its own.
fn answers(
    base: &Base,
    engine: &mut Engine,
    adapter: Option<(&AdapterFile, &Path)>,
    output: Output,
) -> Result<Vec<String>> {
    let spinner = output.spinner("asking questions");
    let attached: Vec<Attach<'_>> =
        adapter.iter().map(|(adapter, path)| Attach { adapter, path, scale: 1.0 }).collect();
    let adapters = engine.attach(base, &attached)?;
    let mut session = pollster::block_on(Session::new(engine, CONTEXT, &adapters))?;
    let sampling = SamplingArgs::greedy(40);
    let mut texts = Vec::new();
    for question in QUESTIONS {
        let prompt = prompt(base, &[Message::new("user", question)])?;
        session.truncate(0);
        texts.push(answer(engine, &mut session, base.tokenizer()?, &prompt, &sampling, &mut |_| Ok(()))?.answer.text);
    }
    spinner.finish_and_clear();
    Ok(texts)
}

fn report(output: Output, before: &[String], after: &[String], outcome: &Outcome, seconds: f64) -> Result {
    let o = outcome;
    let loss = |loss: Option<f64>| loss.map_or("?".to_owned(), |l| format!("{l:.4}"));
    let (first, last) = (loss(o.eval_loss_before), loss(o.eval_loss_after));
    output.line(format!(
        "3. held out   loss {first} -> {last} nats per token on conversations that were not trained on"
    ))?;
    output.line(
        "              (their questions are new wordings, their answers use the same sentences as the training",
    )?;
    output.line("              answers: the loss shows that the facts were learned, not a general ability)")?;
    output.line("4. answers    to questions that were not trained on in these words")?;
    for ((question, before), after) in QUESTIONS.iter().zip(before).zip(after) {
        output.line(format!("\n   {question}"))?;
        output.line(format!("     before: {}", printable(before.trim()).replace('\n', " ")))?;
        output.line(format!("     after:  {}", printable(after.trim()).replace('\n', " ")))?;
    }
    let (device, host) = (bytes(o.peak_device_bytes), memory::peak_host_bytes().map_or("?".into(), bytes));
    let speed = o.tokens_per_second();
    output.line(format!("\n{} steps at {speed:.0} tokens per second, {seconds:.0} s in all", o.steps))?;
    output.line(format!("peak memory: {device} on the device, {host} of the process"))?;
    let answers: Vec<_> = QUESTIONS
        .iter()
        .zip(before.iter().zip(after))
        .map(|(question, (before, after))| json!({"question": question, "before": before, "after": after}))
        .collect();
    output.object(&json!({
        "event": "done", "steps": o.steps, "seconds": seconds, "tokens_per_second": speed, "loss_first": o.loss_first,
        "loss_last": o.loss_last, "eval_loss_before": o.eval_loss_before, "eval_loss_after": o.eval_loss_after,
        "peak_device_bytes": o.peak_device_bytes, "peak_host_bytes": memory::peak_host_bytes(), "weight_uploads": weight_uploads(),
        "answers": answers,
    }))
}
