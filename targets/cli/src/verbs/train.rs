//! `loam train`: an adapter from a base and data, with progress, a log and a report.

use std::num::NonZeroU64;
use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use loam::adapter::{AdapterFile, NewAdapter, Tuning};
use loam::backend::Times;
use loam::chat;
use loam::data::{DataOptions, Dataset, Notes};
use loam::engine::weight_uploads;
use loam::file::AtomicFile;
use loam::ops::{adamw::AdamW, lion::Lion, sgd::Sgd};
use loam::train::objective::Metric;
use loam::train::{
    Asked, Event, Job, ObjectiveOptions, Optimizer, Outcome, Schedule, Suited, Why, checkpoint, objective,
};
use loam::{Base, TrainOptions};
use serde_json::json;

use crate::args::{OptimArg, ScheduleArg, TrainArgs};
use crate::failure::{Failure, Result};
use crate::log::{Log, named, object};
use crate::output::{Output, bytes, escape};
use crate::report::Page;
use crate::{dataset, losses, memory, model, prediction, rejected, upkeep};

/// Runs the verb.
pub fn run(args: &TrainArgs) -> Result {
    memory::keep_tight();
    upkeep::pause_on_signals();
    let begun = Instant::now();
    let output = Output::new(args.json.json);
    // Now, and kept: what cannot be written is told before the work.
    let file = AtomicFile::create(&args.output)?;
    let page = args.report.as_deref().map(AtomicFile::create).transpose()?;
    let mut log = args.log.as_deref().map(|path| Log::create(path, args.upkeep.resume)).transpose()?;
    let adapter = new_adapter(args)?;
    let objective = objective(args)?;
    // One time for all that is rendered, also when the run continues on another day.
    let base = model::base_for_adapters(&args.base, args.origin)?.at(began(args))?;
    let mut options = TrainOptions { adapter, objective, ..options(args, &base)? };
    let start = args.init.as_deref().map(|path| start(&base, path, output)).transpose()?;
    like(&mut options, start.as_ref(), args)?;
    let loading = DataOptions::new(objective.objective.records, options.context);
    let loading = DataOptions { skip_bad: args.skip_bad, control_tokens: args.control_tokens, ..loading };
    let loading = DataOptions { mapping: args.map.clone(), ..loading };
    let (data, held_out) = datasets(args, &base, &loading, output)?;
    if options.eval_every.is_some() && held_out.is_none() {
        return Err(Failure::Usage("--eval-every needs --eval-data or --eval-split".into()));
    }
    let options = suited(options, args, &base, &data, output)?;
    let mut engine = model::engine_for(&base, &args.device, upkeep::target(&args.upkeep))?;
    let job = Job { base: &base, start, data: &data, held_out: held_out.as_ref(), options };
    if args.report.is_some() {
        // The base's answers take time: what refuses the run is to be reported before.
        let kept = upkeep::checkpoints(&args.upkeep);
        pollster::block_on(loam::train::check(&job, engine.backend.info(), kept))?;
    }
    let sets = (&data, held_out.as_ref());
    let begin = |file| Page::begin(file, args, (&base, &mut engine), sets, &job.options);
    let mut page = page.map(begin).transpose()?;
    let device = engine.backend.info().name.clone();
    output.note(format!("training on {}, {} examples", escape(&device), data.examples.len()));
    let mut progress = Progress::new(output);
    let (mut failed, mut started, mut refused) = (None, false, None);
    let mut on_event = |event: &Event| {
        match event {
            Event::Start { .. } => {
                // What compiling took is free now.
                memory::give_back();
                started = true;
            }
            Event::Refused { adapter, .. } => refused = Some(adapter.clone()),
            _ => {}
        }
        page.iter_mut().for_each(|page| page.take(event));
        let reported = progress.show(event).and_then(|()| log.as_mut().map_or(Ok(()), |log| log.write(event)));
        // Training continues when a line cannot be written: the adapter is worth more. The first failure is reported
        // below.
        failed = failed.take().or(reported.err());
    };
    let (upkeep, signals) = upkeep::from_args(&args.upkeep, &args.device, begun.elapsed());
    memory::give_back();
    let work = loam::train::run(&job, &mut engine, upkeep, &mut on_event);
    let trained = pollster::block_on(work);
    progress.finish();
    drop(signals);
    // A run that continues later has no page yet, and one that was refused before its start none to replace another
    // with.
    page = page.filter(|_| started && !matches!(trained, Err(loam::Error::Stopped { .. })));
    let keep = |failure| match refused {
        Some(adapter) => rejected::keep(&adapter, &args.output, failure, output),
        None => failure,
    };
    let published = trained.map_err(|error| keep(Failure::from(error))).and_then(|(adapter, outcome)| {
        adapter.write_to(file).map_err(diverged)?;
        Ok((adapter, outcome))
    });
    // A page that cannot be written is reported after the result: the adapter is worth more.
    failed = failed.or(page.and_then(|page| page.end(args, (&base, &mut engine), &published).err()));
    let (adapter, outcome) = published?;
    adapter.notes(base.gguf()).iter().for_each(|note| output.warn(note));
    report(output, &outcome, &data.notes, &args.output, &device)?;
    failed.map_or(Ok(()), Err)
}

/// When the run began: now, or when the one began that is continued. In seconds since 1970.
fn began(args: &TrainArgs) -> u64 {
    let folder = args.upkeep.checkpoint_dir.as_deref().filter(|_| args.upkeep.resume);
    folder.and_then(checkpoint::began).unwrap_or_else(chat::now)
}

/// The adapter that the flags ask for. With --init it has its shape already: nothing is asked for then.
pub fn new_adapter(args: &TrainArgs) -> Result<NewAdapter> {
    let default = NewAdapter::default();
    let tuning = args.method.unwrap_or(default.tuning);
    let given = [("rank", args.rank.is_some()), ("alpha", args.alpha.is_some()), ("targets", args.targets.is_some())];
    let given = || given.into_iter().filter(|(_, given)| *given).map(|(option, _)| option);
    if let (Some(_), Some(option)) = (&args.init, given().next()) {
        let message = format!("--{option} cannot be given with --init: rank, alpha and targets come from the adapter");
        return Err(Failure::Usage(message));
    }
    if let Some(option) = given().find(|option| *option != "targets" && !tuning.options.contains(option)) {
        return Err(Failure::Usage(format!("--{option} is not for --method {}", tuning.method.name)));
    }
    Ok(NewAdapter {
        tuning,
        rank: args.rank.map_or(default.rank, |rank| rank as usize),
        alpha: args.alpha.unwrap_or(default.alpha),
        targets: args.targets.clone(),
        seed: args.seed,
    })
}

/// The method is that of the adapter `start`, where there is one.
pub fn like(options: &mut TrainOptions, start: Option<&AdapterFile>, args: &TrainArgs) -> Result {
    let Some(start) = start else { return Ok(()) };
    let (tuning, found) = (Tuning::for_method(start.method), start.method.name);
    if let Some(asked) = args.method.filter(|asked| *asked != tuning) {
        let message = format!("--method {} cannot be given with an --init that is {found}", asked.method.name);
        return Err(Failure::Usage(message));
    }
    options.adapter.tuning = tuning;
    Ok(())
}

/// What is learned: as the flag says, else as all of the files do.
pub fn objective(args: &TrainArgs) -> Result<ObjectiveOptions> {
    let TrainArgs { beta, label_smoothing, .. } = *args;
    if let Some(objective) = args.objective {
        return checked(ObjectiveOptions { objective, beta, label_smoothing });
    }
    let mut files = args.data.iter().chain(&args.eval_data).map(|path| dataset::objective(path));
    let first = files.next().unwrap_or(&objective::SFT);
    if files.all(|objective| objective == first) {
        return checked(ObjectiveOptions { objective: first, beta, label_smoothing });
    }
    Err(Failure::Usage("the data is partly .txt and partly .jsonl: say with --objective what to learn from it".into()))
}

/// Before any work: options that the objective does not have.
fn checked(options: ObjectiveOptions) -> Result<ObjectiveOptions> {
    options.check()?;
    Ok(options)
}

/// A training that ends with values which no adapter may have was too fast.
fn diverged(error: loam_files::Error) -> Failure {
    match error {
        loam_files::Error::Adapter { .. } => {
            let hint = "the training diverged: lower --lr; not even --force writes what no reader of adapters takes";
            Failure::Failed { error: Box::new(error), told: None, hint: Some(hint.into()) }
        }
        error => error.into(),
    }
}

/// What the flags mean for this base, but for the adapter.
pub fn options(args: &TrainArgs, base: &Base) -> Result<TrainOptions> {
    Ok(TrainOptions {
        batch: args.batch as usize,
        accumulate: args.accumulate as usize,
        context: model::context(base, args.context)?,
        checkpointing: args.gradient_checkpointing.into(),
        loss_chunk: args.loss_chunk.map(|rows| rows as usize),
        budget: args.budget,
        schedule: schedule(args.schedule),
        warmup: u64::from(args.warmup),
        steps: args.steps.map(u64::from),
        dropout: args.dropout,
        neftune_noise_alpha: args.neftune_noise_alpha,
        clip: args.clip,
        seed: args.seed,
        shuffle: !args.no_shuffle,
        pack: !(args.no_pack || args.group_by_length),
        group_by_length: args.group_by_length,
        eval_every: args.eval_every.and_then(|steps| NonZeroU64::new(u64::from(steps))),
        patience: args.patience.and_then(|evaluations| NonZeroU64::new(u64::from(evaluations))),
        keep: args.keep.into(),
        force: args.force,
        optimizer: optimizer(args)?,
        loraplus_lr_ratio: args.loraplus_lr_ratio,
        ..TrainOptions::default()
    })
}

/// The same with what flags leave open chosen for base and data.
pub fn suited(
    options: TrainOptions,
    args: &TrainArgs,
    base: &Base,
    data: &Dataset,
    output: Output,
) -> Result<TrainOptions> {
    let pack = if args.pack { Some(true) } else { (args.no_pack || args.group_by_length).then_some(false) };
    let asked = Asked { lr: args.lr, epochs: args.epochs.map(u64::from), pack };
    let Suited { options, note } = options.suited(asked, base, data)?;
    note.iter().for_each(|note| output.warn(note));
    Ok(options)
}

fn optimizer(args: &TrainArgs) -> Result<Optimizer> {
    if args.momentum.is_some() && !matches!(args.optim, OptimArg::Sgd) {
        return Err(Failure::Usage("--momentum is for --optim sgd".into()));
    }
    let optimizer = match args.optim {
        OptimArg::Adamw => Optimizer::AdamW(AdamW::default()),
        OptimArg::Adamw8Bit => Optimizer::AdamW8Bit(AdamW::default()),
        OptimArg::Lion => Optimizer::Lion(Lion::default()),
        OptimArg::Sgd => Optimizer::Sgd(Sgd { momentum: args.momentum.unwrap_or(0.0), weight_decay: 0.0 }),
    };
    Ok(optimizer.with_weight_decay(args.weight_decay))
}

fn schedule(schedule: ScheduleArg) -> Schedule {
    match schedule {
        ScheduleArg::Cosine => Schedule::Cosine,
        ScheduleArg::Linear => Schedule::Linear,
        ScheduleArg::Constant => Schedule::Constant,
    }
}

/// The adapter to continue from, checked against the base.
pub fn start(base: &Base, path: &Path, output: Output) -> Result<AdapterFile> {
    let adapter = AdapterFile::read(path)?;
    base.check(&adapter, path)?.iter().for_each(|note| output.warn(note));
    Ok(adapter)
}

/// Training data, and held-out data if there is any.
pub fn datasets(
    args: &TrainArgs,
    base: &Base,
    options: &DataOptions,
    output: Output,
) -> Result<(Dataset, Option<Dataset>)> {
    let data = dataset::load(base, &args.data, options, output)?;
    if let Some(path) = &args.eval_data {
        let held_out = dataset::load(base, std::slice::from_ref(path), options, output)?;
        return Ok((data, Some(held_out)));
    }
    match args.eval_split {
        Some(fraction) => {
            let (data, held_out) = data.split_eval(f64::from(fraction), args.seed)?;
            Ok((data, Some(held_out)))
        }
        None => Ok((data, None)),
    }
}

/// Shows a training run.
pub struct Progress {
    output: Output,
    bar: ProgressBar,
    steps: u64,
    /// Losses of the steps so far.
    pub losses: Vec<f64>,
}

impl Progress {
    /// Nothing is shown before the first event.
    pub fn new(output: Output) -> Self {
        Progress { output, bar: ProgressBar::hidden(), steps: 0, losses: Vec::new() }
    }

    /// Takes an event.
    pub fn show(&mut self, event: &Event) -> Result {
        match event {
            Event::Start { steps, memory, .. } => {
                self.output.note(prediction::line(memory));
                self.steps = *steps;
                self.bar = self.output.bar(*steps, "train");
            }
            Event::Evaluated { step, metrics, .. } => {
                let (bar, output) = (&self.bar, self.output);
                let (loss, others) = (metrics.loss, others(&metrics.others));
                bar.suspend(|| output.note(format!("held-out loss after step {step}: {loss:.4}{others}")));
            }
            Event::Step { step, report, .. } => {
                self.losses.push(report.metrics.loss);
                self.bar.set_position(*step);
                self.bar.set_message(format!("loss {:.3}, norm {:.2}", report.metrics.loss, report.grad_norm));
                self.plain(*step, report.metrics.loss);
            }
            Event::Resumed { step, path, .. } => {
                let path = escape(&path.to_string_lossy());
                self.output.note(format!("going on after step {step}/{} from {path}", self.steps));
                self.bar.set_position(*step);
            }
            Event::Saved { .. } | Event::Refused { .. } => {}
            Event::Paused { .. } | Event::Continued { .. } => {
                let (bar, output) = (&self.bar, self.output);
                bar.suspend(|| output.note(pause(event)));
            }
            Event::Note { message } => {
                let (bar, output) = (&self.bar, self.output);
                bar.suspend(|| output.note(format!("note: {}", escape(message))));
            }
        }
        object(event).map_or(Ok(()), |object| self.output.object(&object))
    }

    /// About ten lines for a run whose progress bar is not shown.
    fn plain(&self, step: u64, loss: f64) {
        let every = self.steps.div_ceil(10).max(1);
        if self.bar.is_hidden() && (step.is_multiple_of(every) || step == self.steps) {
            self.output.note(format!("step {step}/{}: loss {loss:.4}", self.steps));
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// What is said of a pause.
fn pause(event: &Event) -> String {
    match event {
        Event::Paused { why: Why::Asked, .. } => "paused; SIGUSR2 lets the run go on".into(),
        Event::Paused { why, .. } => format!("paused: {}", why.name()),
        Event::Continued { why: why @ (Why::Deadline | Why::Stopped), seconds, .. } => {
            format!("not paused any more after {seconds:.1} s: {}", why.name())
        }
        Event::Continued { seconds, .. } => format!("going on after a pause of {seconds:.1} s"),
        _ => String::new(),
    }
}

/// Metrics after a loss.
fn others(metrics: &[Metric]) -> String {
    metrics.iter().map(|metric| format!(", {} {:.4}", metric.name, metric.value)).collect()
}

/// How long submissions took, as JSON; `buckets` are [upper bound in ms, submissions] with no bound for the last.
fn submit_ms(times: &Times) -> serde_json::Value {
    let buckets: Vec<_> = times.buckets().map(|(bound, count)| (bound.is_finite().then_some(bound), count)).collect();
    json!({
        "count": times.count(), "unmeasured": times.unmeasured, "mean": times.mean_ms(), "max": times.max_ms(),
        "within_8": times.within_ms(8.0), "buckets": buckets,
    })
}

fn report(output: Output, outcome: &Outcome, notes: &Notes, adapter: &Path, device: &str) -> Result {
    let o = outcome;
    let peak = memory::peak_host_bytes();
    output.line(format!("adapter        {}", escape(&adapter.to_string_lossy())))?;
    let planned = if o.steps < o.planned_steps { format!(" of {}", o.planned_steps) } else { String::new() };
    let paused =
        if o.paused_seconds > 0.05 { format!(", {:.1} s of it waiting", o.paused_seconds) } else { String::new() };
    output.line(format!("steps          {}{planned} in {:.1} s{paused}", o.steps, o.seconds))?;
    output.line(format!(
        "tokens         {} ({} trained), {:.0} per second",
        o.tokens,
        o.trained_tokens,
        o.tokens_per_second()
    ))?;
    for (name, value) in losses::rows(o) {
        output.line(format!("{name:<14} {value}"))?;
    }
    for (before, after) in o.eval_metrics_before.iter().zip(&o.eval_metrics_after) {
        output.line(format!("{:<14} {:.4} -> {:.4}", before.name, before.value, after.value))?;
    }
    if o.adapter_step != o.steps {
        output.line(format!("best           after step {}: that is the adapter", o.adapter_step))?;
    }
    if o.skipped > 0 {
        output.line(format!("skipped        {} steps with a gradient that was not finite", o.skipped))?;
    }
    losses::forgotten(o, adapter).iter().for_each(|warning| output.warn(warning));
    output.line(format!(
        "peak memory    {} on the device, {} of the process",
        bytes(o.peak_device_bytes),
        peak.map_or("?".into(), bytes)
    ))?;
    output.object(&json!({
        "event": "done", "steps": o.steps, "skipped": o.skipped, "tokens": o.tokens,
        "trained_tokens": o.trained_tokens, "seconds": o.seconds, "paused_seconds": o.paused_seconds, "tokens_per_second": o.tokens_per_second(),
        "loss_first": o.loss_first, "loss_last": o.loss_last, "eval_loss_before": o.eval_loss_before,
        "eval_loss_after": o.eval_loss_after, "general_loss_before": o.general_loss_before,
        "general_loss_after": o.general_loss_after, "general_tokens": o.general_tokens,
        "rows_loss_before": o.rows_loss_before, "rows_loss_after": o.rows_loss_after, "best_step": o.best_step, "adapter_step": o.adapter_step,
        "stopped_early": o.stopped_early, "peak_device_bytes": o.peak_device_bytes, "peak_host_bytes": peak,
        "adapter": adapter.to_string_lossy(), "device": device, "skipped_lines": notes.skipped,
        "truncated_examples": notes.truncated, "planned_steps": o.planned_steps,
        "metrics_last": named(&o.metrics_last), "eval_metrics_before": named(&o.eval_metrics_before),
        "eval_metrics_after": named(&o.eval_metrics_after),
        "submit_ms": o.times.as_ref().map(submit_ms), "weight_uploads": weight_uploads(),
    }))
}
