//! `loam bench`: how fast a base loads, reads a prompt, generates and trains on a device.

use std::time::Instant;

use loam::data::{Batch, Example};
use loam::engine::{AdapterHandle, Engine};
use loam::generate::Session;
use loam::train::Trainer;
use loam::{Base, TrainOptions};
use serde_json::json;

use crate::args::BenchArgs;
use crate::failure::{Failure, Result};
use crate::output::{Output, bytes, escape};
use crate::{memory, model};

/// A measurement lasts for at least this long and this many runs.
const SECONDS: f64 = 2.0;
const RUNS: u32 = 3;

/// Speeds in tokens per second.
struct Speeds {
    load_seconds: f64,
    prefill: f64,
    decode: f64,
    train: f64,
    peak_device_bytes: u64,
}

/// Runs the verb.
pub fn run(args: &BenchArgs) -> Result {
    let output = Output::new(args.json.json);
    let spinner = output.spinner("measuring");
    let (device, speeds) = pollster::block_on(measure(args, output))?;
    spinner.finish_and_clear();
    let peak = memory::peak_host_bytes();
    output.line(format!("device   {}", escape(&device)))?;
    output.line(format!("load     {:.3} s", speeds.load_seconds))?;
    output.line(format!("prompt   {:.0} tokens per second ({} tokens)", speeds.prefill, args.prompt))?;
    output.line(format!("decode   {:.1} tokens per second ({} tokens)", speeds.decode, args.generate))?;
    output.line(format!("train    {:.0} tokens per second (1 x {} tokens)", speeds.train, args.train))?;
    let host = peak.map_or("?".into(), bytes);
    output.line(format!("memory   {} on the device, {host} of the process", bytes(speeds.peak_device_bytes)))?;
    output.object(&json!({
        "event": "done", "device": device, "load_seconds": speeds.load_seconds,
        "prefill_tokens_per_second": speeds.prefill, "decode_tokens_per_second": speeds.decode,
        "train_tokens_per_second": speeds.train, "peak_device_bytes": speeds.peak_device_bytes,
        "peak_host_bytes": peak, "prompt": args.prompt, "generate": args.generate, "train": args.train,
    }))
}

async fn measure(args: &BenchArgs, output: Output) -> Result<(String, Speeds)> {
    let (prompt, generate) = (args.prompt as usize, args.generate as usize);
    let start = Instant::now();
    let base = Base::open(&args.base.model)?;
    let limit = base.config().context;
    if prompt + generate > limit || args.train as usize > limit {
        let message = format!("--prompt plus --generate, and --train, can be at most the model's {limit} tokens");
        return Err(Failure::Usage(message));
    }
    let mut engine = model::engine(&base, &args.device)?;
    let mut session = Session::new(&mut engine, prompt + generate, &AdapterHandle::none()).await?;
    let load_seconds = start.elapsed().as_secs_f64();
    let device = engine.backend.info().name.clone();
    output.object(&json!({"event": "start", "device": device, "load_seconds": load_seconds}))?;
    let tokens = tokens(&base, prompt);
    let prefill = prefill(&mut engine, &mut session, &tokens).await?;
    output.object(&json!({"event": "prefill", "tokens_per_second": prefill}))?;
    let decode = decode(&mut engine, &mut session, &tokens, generate).await?;
    output.object(&json!({"event": "decode", "tokens_per_second": decode}))?;
    drop(session);
    let train = train(&base, &mut engine, args).await?;
    output.object(&json!({"event": "train", "tokens_per_second": train}))?;
    let peak_device_bytes = engine.memory().peak_bytes;
    Ok((device, Speeds { load_seconds, prefill, decode, train, peak_device_bytes }))
}

/// How fast `prompt` is read.
async fn prefill(engine: &mut Engine, session: &mut Session, prompt: &[u32]) -> Result<f64> {
    // The first run compiles plans; it is not counted.
    session.feed(engine, prompt).await?;
    let mut speed = Speed::default();
    while speed.wants_more() {
        session.truncate(0);
        let start = Instant::now();
        session.feed(engine, prompt).await?;
        speed.add(prompt.len(), start);
    }
    Ok(speed.per_second())
}

/// How fast `count` tokens come one by one after `prompt`, which is in the cache.
async fn decode(engine: &mut Engine, session: &mut Session, prompt: &[u32], count: usize) -> Result<f64> {
    session.feed(engine, &prompt[..1]).await?;
    let mut speed = Speed::default();
    while speed.wants_more() {
        session.truncate(prompt.len());
        let start = Instant::now();
        for at in 0..count {
            session.feed(engine, &prompt[at % prompt.len()..][..1]).await?;
        }
        speed.add(count, start);
    }
    Ok(speed.per_second())
}

/// Training speed with a LoRA on all linear layers.
async fn train(base: &Base, engine: &mut Engine, args: &BenchArgs) -> Result<f64> {
    let context = args.train as usize;
    let options = TrainOptions { batch: 1, context, ..TrainOptions::default() };
    let lr = options.lr;
    let mut trainer = Trainer::new(engine, None, options).await?;
    let example = Example { tokens: tokens(base, context), trained: vec![true; context], line: 0, cut: 0 };
    let batches = [Batch::new(&[vec![&example]], 1, context)?];
    trainer.step(engine, &batches, lr).await?;
    let mut speed = Speed::default();
    while speed.wants_more() {
        let start = Instant::now();
        trainer.step(engine, &batches, lr).await?;
        speed.add(context, start);
    }
    Ok(speed.per_second())
}

/// Token ids spread over the vocabulary, always the same ones.
fn tokens(base: &Base, count: usize) -> Vec<u32> {
    let vocabulary = base.config().vocabulary as u64;
    (0..count as u64).map(|i| (i.wrapping_mul(2_654_435_761) % vocabulary) as u32).collect()
}

/// Tokens and seconds of repeated runs.
#[derive(Default)]
struct Speed {
    tokens: usize,
    seconds: f64,
    runs: u32,
}

impl Speed {
    fn add(&mut self, tokens: usize, start: Instant) {
        self.seconds += start.elapsed().as_secs_f64();
        self.tokens += tokens;
        self.runs += 1;
    }

    fn wants_more(&self) -> bool {
        self.runs < RUNS || self.seconds < SECONDS
    }

    fn per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }
}
