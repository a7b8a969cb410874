//! The loop: evaluate, train step by step, evaluate again, describe the adapter. Between any two micro-batches it can be
//! stopped, and go on in another process.

use std::path::PathBuf;

use embassy_time::Instant;

use super::checkpoint::{Checkpoints, Generations, Identity, State};
use super::describe::describe;
use super::{Control, Event, MemoryPlan, Outcome, Progress, Scope, StepReport, TrainOptions, Trainer, fit};
use crate::adapter::AdapterFile;
use crate::backend::Backend;
use crate::base::Base;
use crate::data::{Batches, Dataset};
use crate::error::{Error, Result};

/// Steps with a gradient that is not finite after which a run ends: one can be an accident, these are not.
const GIVE_UP: u32 = 5;

/// What surrounds a run. Nothing in it changes the adapter that comes out.
#[derive(Debug, Default)]
pub struct Upkeep {
    /// Where the run keeps its checkpoints, if it does.
    pub checkpoints: Option<Checkpoints>,
    /// Who may stop it.
    pub control: Control,
}

/// Trains an adapter on `data`; `held_out` is only measured. Starts from `adapter` or from a new one.
///
/// # Errors
/// Options or data that allow no training, a device failure, or an adapter that ends with values that are not finite.
pub async fn run(
    base: &Base,
    backend: Box<dyn Backend>,
    adapter: Option<AdapterFile>,
    data: (&Dataset, Option<&Dataset>),
    options: TrainOptions,
    on_event: &mut dyn FnMut(&Event),
) -> Result<(AdapterFile, Outcome)> {
    run_with(base, backend, adapter, data, options, Upkeep::default(), on_event).await
}

/// As [`run`], with checkpoints and somebody who may stop it.
///
/// # Errors
/// As [`run`]; [`Error::Stopped`] if it was stopped; what [`Generations::open`] returns.
pub async fn run_with(
    base: &Base,
    backend: Box<dyn Backend>,
    adapter: Option<AdapterFile>,
    (data, held_out): (&Dataset, Option<&Dataset>),
    options: TrainOptions,
    upkeep: Upkeep,
    on_event: &mut dyn FnMut(&Event),
) -> Result<(AdapterFile, Outcome)> {
    options.check()?;
    let scope = Scope { evaluates: held_out.is_some(), checkpoints: upkeep.checkpoints.is_some() };
    let (chosen, memory) = fit(base, backend.info(), adapter.as_ref(), &options, scope).await?;
    let mut task = Task { base, start: adapter, data, held_out, options };
    let opened = match &upkeep.checkpoints {
        Some(request) => {
            let identity = task.identity(&*backend)?;
            let (generations, found) = Generations::open(request, base.config().architecture, identity)?;
            (Some(generations), found)
        }
        None => (None, (None, Vec::new())),
    };
    let (generations, (found, problems)) = opened;
    (task.options.checkpointing, task.options.loss_chunk) = (chosen.checkpointing, chosen.loss_chunk);
    // A run that goes on keeps its micro-batches: other ones have other sums.
    let before = found.as_ref().map(|(_, state)| state.progress.batch);
    let kept = before.filter(|&batch| batch > 0 && chosen.batch.is_multiple_of(batch));
    let progress = Progress::new(kept.unwrap_or(chosen.batch));
    let trainer = task.trainer(backend, progress.batch)?;
    let mut run = Run { trainer, task, memory, progress, upkeep, generations };
    run.begin(found, problems, on_event)?;
    run.train(on_event).await?;
    run.finish().await
}

/// What is to be done.
struct Task<'a> {
    base: &'a Base,
    /// The adapter that the run starts from, if not from a new one.
    start: Option<AdapterFile>,
    data: &'a Dataset,
    held_out: Option<&'a Dataset>,
    options: TrainOptions,
}

impl Task<'_> {
    fn identity(&self, backend: &dyn Backend) -> Result<Identity> {
        let data = (self.data, self.held_out);
        Identity::new(self.base, backend.info(), self.start.as_ref(), data, &self.options)
    }

    /// The options in micro-batches of `batch` rows, which divides the number that was asked for.
    fn divided(&self, batch: usize) -> TrainOptions {
        let accumulate = self.options.accumulate * (self.options.batch / batch);
        TrainOptions { batch, accumulate, ..self.options.clone() }
    }

    fn trainer(&self, backend: Box<dyn Backend>, batch: usize) -> Result<Trainer> {
        Trainer::new(self.base, backend, self.start.clone(), self.divided(batch))
    }

    fn batches(&self, batch: usize) -> Result<Batches<'_>> {
        Batches::new(&self.data.examples, self.divided(batch).batches())
    }

    /// Optimizer steps of the whole run.
    fn steps(&self) -> Result<u64> {
        let steps =
            || Ok(self.options.epochs.saturating_mul(self.batches(self.options.batch)?.steps_per_epoch() as u64));
        self.options.steps.map_or_else(steps, Ok)
    }
}

/// A run that is under way.
struct Run<'a> {
    task: Task<'a>,
    trainer: Trainer,
    memory: MemoryPlan,
    progress: Progress,
    upkeep: Upkeep,
    generations: Option<Generations>,
}

impl Run<'_> {
    /// Tells of the start, and goes to where `found` was.
    fn begin(
        &mut self,
        found: Option<(PathBuf, State)>,
        problems: Vec<String>,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<()> {
        let steps = self.task.steps()?;
        let (parameters, memory) = (self.trainer.parameters(), self.memory.clone());
        on_event(&Event::Start { steps, parameters, memory });
        for problem in problems {
            on_event(&Event::Note { message: format!("not used, an older checkpoint is: {problem}") });
        }
        let Some((path, state)) = found else {
            let asked = self.upkeep.checkpoints.as_ref().filter(|checkpoints| checkpoints.resume);
            if let Some(Checkpoints { folder, .. }) = asked {
                let message = format!("there is no checkpoint in {} yet: the run starts", folder.display());
                on_event(&Event::Note { message });
            }
            return Ok(());
        };
        let unusable = |problem| Error::Checkpoint { path: path.clone(), problem };
        state.progress.check(&self.task.options, steps).map_err(unusable)?;
        self.enter(&state).map_err(|error| unusable(error.to_string()))?;
        let (step, evaluated) = (self.progress.outcome.steps, self.progress.evaluated());
        on_event(&Event::Resumed { step, evaluated, path });
        Ok(())
    }

    /// Goes to where `state` was.
    fn enter(&mut self, state: &State) -> Result<()> {
        self.trainer.restore(&state.buffers, state.progress.updates)?;
        let batch = self.progress.batch;
        self.progress = state.progress.clone();
        self.progress.divide(batch);
        Ok(())
    }

    async fn train(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        let steps = self.task.steps()?;
        loop {
            self.evaluate_if_due(steps, on_event).await?;
            let step = self.progress.outcome.steps;
            if step >= steps {
                return Ok(());
            }
            self.step(steps, on_event).await?;
            let every = self.upkeep.checkpoints.as_ref().map_or(0, |checkpoints| checkpoints.every.max(1));
            if every > 0 && ((step + 1).is_multiple_of(every) || step + 1 == steps) {
                self.save(on_event).await?;
            }
        }
    }

    /// Does what is left of the present step.
    async fn step(&mut self, steps: u64, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        let step = self.progress.outcome.steps + 1;
        let batches = self.task.batches(self.progress.batch)?.step(step as usize - 1)?;
        while let Some(batch) = batches.micro.get(self.progress.micro) {
            self.look(steps, on_event).await?;
            let began = Instant::now();
            self.progress.loss_sum += self.trainer.micro_batch(batch, self.progress.micro, batches.trained).await?;
            self.progress.micro += 1;
            self.progress.outcome.seconds += seconds_since(began);
        }
        let began = Instant::now();
        let options = &self.task.options;
        let lr = options.lr * options.schedule.factor(step, options.warmup, steps);
        let grad_norm = self.trainer.update(lr).await?;
        let loss = self.progress.loss_sum / batches.trained as f64;
        let (trained_tokens, tokens) = (batches.trained, batches.tokens_used);
        let report = StepReport { loss, lr, grad_norm, trained_tokens, tokens };
        self.progress.count(&report, self.trainer.updates());
        self.progress.outcome.seconds += seconds_since(began);
        on_event(&Event::Step { step, report, seconds: self.progress.outcome.seconds });
        if self.progress.not_finite == GIVE_UP {
            return Err(Error::NonFinite(format!("the gradient of {GIVE_UP} steps in a row, up to step {step},")));
        }
        Ok(())
    }

    /// Between two micro-batches: does what somebody outside asks for.
    async fn look(&mut self, steps: u64, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        if !self.upkeep.control.is_cancelled() {
            return Ok(());
        }
        let checkpoint = match self.generations {
            Some(_) => Some(self.write(on_event).await?),
            None => None,
        };
        Err(Error::Stopped { step: self.progress.outcome.steps, steps, checkpoint })
    }

    /// Measures the held-out loss where that is due and not done: before the first step, after the last one, and as
    /// often in between as the options say.
    async fn evaluate_if_due(&mut self, steps: u64, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        let (step, every) = (self.progress.outcome.steps, self.task.options.eval_every);
        let due = step == 0 || step >= steps || (every > 0 && step.is_multiple_of(every));
        let Some(data) = self.task.held_out.filter(|_| due && !self.progress.evaluated()) else { return Ok(()) };
        let batches = data.in_order(self.progress.batch, self.task.options.context)?;
        let (mut sum, mut trained) = (0.0, 0);
        for batch in batches.iter().filter(|batch| batch.trained > 0) {
            self.look(steps, on_event).await?;
            sum += self.trainer.evaluate_batch(batch).await?;
            trained += batch.trained;
        }
        let loss = mean(sum, trained)?;
        let outcome = &mut self.progress.outcome;
        match step {
            0 => outcome.eval_loss_before = Some(loss),
            _ if step >= steps => outcome.eval_loss_after = Some(loss),
            _ => {}
        }
        self.progress.evaluations = step + 1;
        on_event(&Event::Evaluated { step, loss });
        Ok(())
    }

    /// Writes a checkpoint. A run that cannot is told of and goes on: the adapter is worth more, and the disk may
    /// have room next time.
    async fn save(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        match self.write(on_event).await {
            Err(error @ Error::Io { .. }) => {
                let message = format!("no checkpoint was written, the run goes on without: {}", error.chain());
                on_event(&Event::Note { message });
                Ok(())
            }
            written => written.map(drop),
        }
    }

    async fn write(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
        let state = State { progress: self.progress.clone(), buffers: self.trainer.buffers().await? };
        let Some(generations) = &mut self.generations else {
            return Err(Error::Argument("the run has no folder for checkpoints".into()));
        };
        let path = generations.save(&state)?;
        on_event(&Event::Saved { step: self.progress.outcome.steps, path: path.clone() });
        Ok(path)
    }

    async fn finish(mut self) -> Result<(AdapterFile, Outcome)> {
        let mut outcome = self.progress.outcome;
        if outcome.skipped == outcome.steps {
            return Err(Error::NonFinite("the gradient of every step".into()));
        }
        outcome.peak_device_bytes = self.trainer.engine().backend.memory().peak_bytes;
        let mut adapter = self.trainer.adapter().await?;
        let Task { base, data, options, .. } = &self.task;
        adapter.metadata = describe(base, (options, &adapter), &data.digest, &outcome)?;
        Ok((adapter, outcome))
    }
}

fn seconds_since(began: Instant) -> f64 {
    began.elapsed().as_micros() as f64 / 1e6
}

/// The mean of the losses `sum` of `trained` tokens.
fn mean(sum: f64, trained: usize) -> Result<f64> {
    if trained == 0 {
        return Err(Error::Argument("the evaluation data has no token with a loss".into()));
    }
    if !sum.is_finite() {
        return Err(Error::NonFinite("the loss on the evaluation data".into()));
    }
    Ok(sum / trained as f64)
}
