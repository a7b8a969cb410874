//! `loam plan`: the memory of a training, from the file's header and the flags alone.

use loam::TrainOptions;
use loam::backend::select;
use loam::data::{DataOptions, Dataset};
use loam::train::{Job, MemoryPlan, Scope};
use serde_json::json;

use super::train;
use crate::args::PlanArgs;
use crate::failure::{Failure, Result};
use crate::model;
use crate::output::{Output, bytes, escape};
use crate::prediction::{checkpoints, host_pools, object, pools};
use crate::timing::{self, Time};

/// Runs the verb: what `loam train` does before it trains.
pub fn run(PlanArgs { train: args, measure }: &PlanArgs) -> Result {
    let output = Output::new(args.json.json);
    if *measure && args.data.is_empty() {
        return Err(Failure::Usage("--measure needs --data".into()));
    }
    let adapter = train::new_adapter(args)?;
    let base = model::base_for_adapters(&args.base, args.origin)?;
    let objective = train::objective(args)?;
    let mut options = TrainOptions { adapter, objective, ..train::options(args, &base)? };
    let start = args.init.as_deref().map(|path| train::start(&base, path, output)).transpose()?;
    train::like(&mut options, start.as_ref(), args)?;
    // These are in the memory of a training too.
    base.tokenizer()?;
    base.template()?;
    let loading = DataOptions {
        skip_bad: args.skip_bad,
        control_tokens: args.control_tokens,
        mapping: args.map.clone(),
        ..DataOptions::new(objective.objective.records, options.context)
    };
    let data = if args.data.is_empty() { None } else { Some(train::datasets(args, &base, &loading, output)?) };
    if let Some((data, held_out)) = &data {
        options = train::suited(options, args, &base, data, output)?.fitted(data, held_out.as_ref())?;
    }
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
    let context = options.context;
    output.line(format!("device         {}", escape(&device.name)))?;
    show_memory(output, &memory, context)?;
    let steps = data.as_ref().map(|(data, _)| options.planned_steps(data)).transpose()?;
    if let Some(steps) = steps {
        output.line(format!("steps          {steps}"))?;
    }
    let free = loam::host::available_bytes().filter(|_| device.kind.shares_host());
    if let Some(free) = free.filter(|free| memory.allocated_bytes() > *free) {
        output.warn(&format!("it does not fit here now: {} are free for the process", bytes(free)));
    }
    let time = match (measure, &data) {
        (false, _) | (_, None) => None,
        (true, Some((data, held_out))) => {
            Some(timing::measure(args, Job { base: &base, start, data, held_out: held_out.as_ref(), options })?)
        }
    };
    show_time(output, time)?;
    let mut shown = object(&memory);
    shown["free_host_bytes"] = json!(free);
    shown["steps"] = json!(steps);
    shown["seconds_per_step"] = json!(time.map(|time| time.step));
    shown["seconds_per_evaluation"] = json!(time.and_then(|time| time.evaluation));
    shown["seconds"] = json!(time.map(|time| time.run));
    shown["device"] = json!(device.name);
    shown["context"] = json!(context);
    shown["budget"] = json!(args.budget);
    shown["event"] = json!("done");
    output.object(&shown)
}

/// Shows the memory, and what was chosen for it.
fn show_memory(output: Output, memory: &MemoryPlan, context: usize) -> Result {
    output.line(format!("micro-batch    {} x {context} tokens, {} per step", memory.micro_batch, memory.accumulate))?;
    output.line(format!("checkpointing  {}", if checkpoints(memory) { "on" } else { "off" }))?;
    output.line(format!("loss chunk     {} rows of logits", memory.loss_chunk))?;
    output.line(format!("device memory  {}", bytes(memory.peak_device_bytes)))?;
    for (pool, size) in pools(memory) {
        output.line(format!("  {:<12} {}", pool.name(), bytes(size)))?;
    }
    output.line(format!("host memory    {}", bytes(memory.peak_host_bytes)))?;
    for (pool, size) in host_pools(memory) {
        output.line(format!("  {pool:<12} {}", bytes(size)))?;
    }
    if let Some(size) = memory.checkpoint_bytes {
        output.line(format!("checkpoints    2 of up to {}", bytes(size)))?;
    }
    Ok(())
}

/// Shows the time, if it was measured.
fn show_time(output: Output, time: Option<Time>) -> Result {
    if let Some(Time { step, evaluation, run }) = time {
        output.line(format!("a step         {step:.2} s"))?;
        if let Some(evaluation) = evaluation {
            output.line(format!("an evaluation  {evaluation:.1} s"))?;
        }
        output.line(format!("the run        about {}", timing::shown(run)))?;
    }
    Ok(())
}
