//! `loam plan`: the memory of a training, from the file's header and the flags alone.

use loam::TrainOptions;
use loam::backend::select;
use loam::data::{DataOptions, Dataset};
use loam::train::Scope;
use serde_json::json;

use super::train;
use crate::args::TrainArgs;
use crate::failure::Result;
use crate::model;
use crate::output::{Output, bytes, escape};
use crate::prediction::{checkpoints, host_pools, object, pools};

/// Runs the verb: what `loam train` does before it trains.
pub fn run(args: &TrainArgs) -> Result {
    let output = Output::new(args.json.json);
    let adapter = train::new_adapter(args)?;
    let base = model::base_for_adapters(&args.base, args.origin)?;
    let objective = train::objective(args)?;
    let mut options = TrainOptions { adapter, objective, ..train::options(args, &base)? };
    let start = args.init.as_deref().map(|path| train::start(&base, path, output)).transpose()?;
    train::like(&mut options, start.as_ref(), args)?;
    // These are in the memory of a training too.
    base.tokenizer()?;
    base.template()?;
    let loading =
        DataOptions { skip_bad: args.skip_bad, ..DataOptions::new(objective.objective.records, options.context) };
    let data = if args.data.is_empty() { None } else { Some(train::datasets(args, &base, &loading, output)?) };
    let of = |(data, held_out): &(Dataset, Option<Dataset>)| Scope::new(data, held_out.as_ref(), start.as_ref());
    let scope = Scope {
        evaluates: args.eval_data.is_some() || args.eval_split.is_some(),
        checkpoints: args.upkeep.checkpoint_dir.is_some(),
        reopens: true,
        ..data.as_ref().map(of).unwrap_or_default()
    };
    let device = pollster::block_on(select::info(&args.device.name(), args.device.precision.into()))?;
    let fitting = loam::train::fit(&base, &device, start.as_ref(), &options, scope);
    let (options, memory) = pollster::block_on(fitting)?;
    output.line(format!("device         {}", escape(&device.name)))?;
    output.line(format!(
        "micro-batch    {} x {} tokens, {} per step",
        memory.micro_batch, options.context, memory.accumulate
    ))?;
    output.line(format!("checkpointing  {}", if checkpoints(&memory) { "on" } else { "off" }))?;
    output.line(format!("loss chunk     {} rows of logits", memory.loss_chunk))?;
    output.line(format!("device memory  {}", bytes(memory.peak_device_bytes)))?;
    for (pool, size) in pools(&memory) {
        output.line(format!("  {:<12} {}", pool.name(), bytes(size)))?;
    }
    output.line(format!("host memory    {}", bytes(memory.peak_host_bytes)))?;
    for (pool, size) in host_pools(&memory) {
        output.line(format!("  {pool:<12} {}", bytes(size)))?;
    }
    let free = loam::host::available_bytes().filter(|_| device.kind.shares_host());
    if let Some(free) = free.filter(|free| memory.allocated_bytes() > *free) {
        output.warn(&format!("it does not fit here now: {} are free for the process", bytes(free)));
    }
    let mut shown = object(&memory);
    shown["free_host_bytes"] = json!(free);
    shown["device"] = json!(device.name);
    shown["context"] = json!(options.context);
    shown["budget"] = json!(options.budget);
    shown["event"] = json!("done");
    output.object(&shown)
}
