//! The loop: evaluate, train step by step, evaluate again, describe the adapter. Between any two micro-batches it can be
//! stopped, and go on in another process.

use std::path::PathBuf;

use embassy_time::{Duration, Instant};

use super::around::{Around, News};
use super::describe::describe;
use super::stopping::{self, Best};
use super::task::Task;
use super::{Event, Outcome, Progress, Upkeep};
use crate::adapter::AdapterFile;
use crate::backend::Times;
use crate::base::Base;
use crate::data::Dataset;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::option::OptionError;
use crate::train::checkpoint::State;
use crate::train::{StepReport, TrainOptions, Trainer};

/// Steps with a gradient that is not finite after which a run ends: one can be an accident, these are not.
const GIVE_UP: u32 = 5;

/// Trains an adapter of `base`, which is on `engine`, on `data`; `held_out` is only measured. Starts from `adapter` or from a new one.
///
/// # Errors
/// Options or data that allow no training, a device failure, an adapter with values that are not finite; unless the
/// options force it, a run that ends with losses or gradients that are not finite, or with a higher held-out loss than it
/// began with.
pub async fn run(
    base: &Base,
    engine: &mut Engine,
    adapter: Option<AdapterFile>,
    data: (&Dataset, Option<&Dataset>),
    options: TrainOptions,
    on_event: &mut dyn FnMut(&Event),
) -> Result<(AdapterFile, Outcome)> {
    run_with(base, engine, adapter, data, options, Upkeep::default(), on_event).await
}

/// As [`run`], with what surrounds it: checkpoints, pace, somebody who may stop it, a way to open the device again.
///
/// # Errors
/// As [`run`]; [`Error::Stopped`] if it was stopped; what opening the folder of checkpoints returns.
pub async fn run_with(
    base: &Base,
    engine: &mut Engine,
    adapter: Option<AdapterFile>,
    (data, held_out): (&Dataset, Option<&Dataset>),
    options: TrainOptions,
    upkeep: Upkeep,
    on_event: &mut dyn FnMut(&Event),
) -> Result<(AdapterFile, Outcome)> {
    options.check()?;
    let mut task = Task { base, start: adapter, data, held_out, options };
    let mut around = Around::open(&mut task, &*engine.backend, upkeep).await?;
    attempts(&mut task, engine, &mut around, on_event).await
}

/// Trains to the end, on another device where one fails that can be opened again. The engine is a new one then: what
/// other tenants had on the old one is lost with it.
async fn attempts(
    task: &mut Task<'_>,
    engine: &mut Engine,
    around: &mut Around,
    on_event: &mut dyn FnMut(&Event),
) -> Result<(AdapterFile, Outcome)> {
    loop {
        match attempt(task, engine, around, on_event).await {
            Err(error) => {
                let lost = matches!(error, Error::DeviceLost { .. });
                match around.rescue.after(error, task.options.batch, on_event) {
                    Ok(opened) => {
                        *engine = Engine::new(task.base, opened)?;
                        around.times_before = Times::default();
                        task.options.checkpointing = Some(around.rescue.checkpointing);
                    }
                    Err(error) if lost => return Err(around.give_up(error, on_event)),
                    Err(error) => return Err(error),
                }
            }
            done => return done,
        }
    }
}

/// Trains from where the rescue's state is to the end, on a device that may fail.
async fn attempt(
    task: &Task<'_>,
    engine: &mut Engine,
    around: &mut Around,
    on_event: &mut dyn FnMut(&Event),
) -> Result<(AdapterFile, Outcome)> {
    let batch = around.rescue.batch;
    let trainer = task.trainer(engine, batch)?;
    let progress = Progress { loss_chunk: trainer.loss_chunk(), ..Progress::new(batch) };
    let mut run = Run { task, engine, trainer, progress, around, ending: false, flat: false };
    run.begin(on_event)?;
    run.train(on_event).await?;
    run.finish(on_event).await
}

/// An attempt that is under way.
struct Run<'a> {
    task: &'a Task<'a>,
    engine: &'a mut Engine,
    trainer: Trainer,
    progress: Progress,
    around: &'a mut Around,
    /// The time is over.
    ending: bool,
    /// It was told that the gradient is zero.
    flat: bool,
}

impl Run<'_> {
    /// Goes to where the rescue's state is, and tells of the start if that was not told before.
    fn begin(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        let news = self.around.news.take();
        if let Some(News { notes, memory, .. }) = &news {
            let (steps, parameters) = (self.around.steps, self.trainer.parameters());
            on_event(&Event::Start { steps, parameters, memory: memory.clone() });
            notes.iter().for_each(|message| on_event(&Event::Note { message: message.clone() }));
        }
        let resumed = news.and_then(|news| news.resumed);
        let Some(state) = &self.around.rescue.state else { return Ok(()) };
        self.trainer.restore(self.engine, &state.buffers, state.progress.updates).map_err(|error| {
            match (error, &resumed) {
                (Error::Argument(problem), Some(path)) => {
                    Error::Checkpoint { path: path.clone(), problem: problem.into() }
                }
                (error, _) => error,
            }
        })?;
        // The chunk is smaller than it was if the micro-batch is.
        self.progress = Progress { loss_chunk: self.trainer.loss_chunk(), ..state.progress.clone() };
        if let Some(path) = resumed {
            let (step, evaluated) = (self.progress.outcome.steps, self.progress.evaluated());
            self.around.told = (step, self.progress.evaluations);
            let history = Box::new(self.progress.history.clone());
            on_event(&Event::Resumed { step, evaluated, path, history });
        }
        Ok(())
    }

    async fn train(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        loop {
            let evaluated = self.evaluate_if_due(on_event).await?;
            let step = self.progress.outcome.steps;
            if self.ended() {
                return Ok(());
            }
            let clock = &self.around.clock;
            if !evaluated || !clock.allows(clock.step) || !self.step(on_event).await? {
                return self.end(on_event).await;
            }
            let every = self.around.every;
            if every > 0 && ((step + 1).is_multiple_of(every) || step + 1 == self.around.steps) {
                self.save(on_event).await?;
            }
            self.around.rescue.copy(self.engine, &self.trainer, &self.progress).await?;
        }
    }

    /// Ends before the last step because the time is over.
    async fn end(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        let (step, steps) = (self.progress.outcome.steps, self.around.steps);
        if self.around.generations.is_some() {
            self.save(on_event).await?;
        }
        if step == 0 {
            let problem = format!("is over before the first of {steps} steps: give more time");
            return Err(OptionError::new("deadline", problem).into());
        }
        on_event(&Event::Note { message: format!("the time is over after {step} of {steps} steps") });
        self.ending = true;
        self.evaluate_if_due(on_event).await.map(drop)
    }

    /// Does what is left of the present step. False: the time was over before its end.
    async fn step(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<bool> {
        let step = self.progress.outcome.steps + 1;
        let batches = self.task.batches(self.progress.batch)?.step(step as usize - 1)?;
        let whole = self.mark();
        while let Some(batch) = batches.micro.get(self.progress.micro) {
            let began = self.mark();
            let looked = self.look(on_event).await;
            let clock = &self.around.clock;
            if looked.is_err() || !clock.allows(clock.batch) {
                self.count(began);
                return looked.map(|()| false);
            }
            let work = self.mark();
            let place = (self.progress.micro, batches.trained);
            let Around { pace, .. } = &mut *self.around;
            self.progress.loss_sum += self.trainer.micro_batch(self.engine, batch, place, pace, on_event).await?;
            self.progress.micro += 1;
            self.around.clock.batch = self.worked(work);
            self.count(began);
        }
        let began = self.mark();
        let options = &self.task.options;
        let lr = options.lr * options.schedule.factor(step, options.warmup, self.around.steps);
        let grad_norm = self.trainer.update(self.engine, lr).await?;
        let loss = self.progress.loss_sum / batches.trained as f64;
        let (trained_tokens, tokens) = (batches.trained, batches.tokens_used);
        let report = StepReport { loss, lr, grad_norm, trained_tokens, tokens };
        self.progress.count(&report, self.trainer.updates());
        self.count(began);
        self.around.clock.step = self.worked(whole);
        if self.task.held_out.is_none() && !self.task.options.force {
            // What is measured at the end takes no longer than a step: two times forward.
            self.around.clock.evaluation = self.around.clock.step;
        }
        if step > self.around.told.0 {
            self.around.told.0 = step;
            on_event(&Event::Step { step, report, seconds: self.progress.outcome.seconds });
            self.tell_of_zeros(&report, on_event);
        }
        if self.gave_up() && !self.task.options.force {
            return Err(Error::NonFinite(format!("the gradient of {GIVE_UP} steps in a row, up to step {step},")));
        }
        Ok(true)
    }

    /// A gradient that is zero everywhere is no success: the adapter's values are so large that all logits are alike.
    fn tell_of_zeros(&mut self, report: &StepReport, on_event: &mut dyn FnMut(&Event)) {
        let step = self.progress.outcome.steps;
        if report.grad_norm == 0.0 && !self.flat {
            self.flat = true;
            let message = format!(
                "the gradient of step {step} is 0 everywhere: nothing is learned from here on; a lower lr may help"
            );
            on_event(&Event::Note { message });
        }
    }

    /// Between two micro-batches: waits if the run is paused, and ends it if somebody asks for that.
    async fn look(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        let Around { pace, clock, .. } = &mut *self.around;
        (pace.step, pace.until) = (self.progress.outcome.steps, clock.latest());
        pace.hold(&mut *self.engine.backend, on_event).await?;
        if !self.around.control.is_cancelled() {
            return Ok(());
        }
        let checkpoint = match self.around.generations {
            Some(_) => Some(self.write(on_event).await?),
            None => None,
        };
        Err(Error::Stopped { step: self.progress.outcome.steps, steps: self.around.steps, checkpoint })
    }

    /// Measures the held-out loss where that is due and not done: before the first step, after the last one, and as
    /// often in between as the options say. False: the time was over before its end.
    async fn evaluate_if_due(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<bool> {
        let (step, every) = (self.progress.outcome.steps, self.task.options.eval_every);
        let due = step == 0 || self.ended() || (every > 0 && step.is_multiple_of(every));
        let Some(data) = self.task.held_out.filter(|_| due && !self.progress.evaluated()) else { return Ok(true) };
        let whole = self.mark();
        let batches = data.evaluation(self.progress.batch, self.task.options.context)?;
        let (mut sum, mut trained, mut shortest) = (0.0, 0, Duration::MAX);
        let count = batches.steps_per_epoch();
        for (done, batch) in batches.epoch(0).enumerate() {
            for batch in batch?.micro.iter().filter(|batch| batch.trained > 0) {
                self.look(on_event).await?;
                if !self.around.clock.allows_batch() {
                    return Ok(self.leave_out(on_event));
                }
                let began = self.mark();
                sum += self.trainer.evaluate_batch(self.engine, batch, &mut self.around.pace, on_event).await?;
                trained += batch.trained;
                self.around.clock.batch = self.worked(began);
                // The first batch takes longer than others: what it needs is made.
                if step == 0 && done > 0 {
                    shortest = shortest.min(self.around.clock.batch);
                    self.check_deadline(shortest, (done + 1, count))?;
                }
            }
        }
        let loss = sum / trained as f64;
        let mut best = false;
        if step == 0 {
            self.progress.outcome.eval_loss_before = Some(mean(sum, trained)?);
        } else {
            let taken = self.progress.stopping.take(step, loss, self.progress.outcome.eval_loss_before);
            if taken.lowest {
                self.progress.stopping.best =
                    Some(Best { step, loss, values: self.trainer.values(self.engine).await? });
            }
            best = taken.better;
        }
        self.progress.evaluations = step + 1;
        self.progress.history.evaluated(step, loss);
        self.around.clock.evaluation = self.worked(whole);
        if step + 1 > self.around.told.1 {
            self.around.told.1 = step + 1;
            let before = self.progress.outcome.eval_loss_before;
            let best = best && before.is_none_or(|before| loss <= before);
            on_event(&Event::Evaluated { step, loss, best });
        }
        Ok(true)
    }

    /// Tells that the held-out loss of the adapter in the end is not known.
    fn leave_out(&self, on_event: &mut dyn FnMut(&Event)) -> bool {
        if self.ended() {
            let step = self.progress.outcome.steps;
            let message = format!("the held-out loss after step {step} is not measured: the time is over");
            on_event(&Event::Note { message });
        }
        false
    }

    /// Ends the run before its first step if the held-out data alone takes the time, with `done` of `count` batches
    /// behind it that each took `batch` or longer: those that are left, and all of them once more in the end.
    fn check_deadline(&self, batch: Duration, (done, count): (usize, usize)) -> Result<()> {
        let micros = |batches: usize| Duration::from_micros(batch.as_micros().saturating_mul(batches as u64));
        if self.around.clock.allows(micros(2 * count - done)) {
            return Ok(());
        }
        let seconds = micros(count).as_micros() as f64 / 1e6;
        let problem = format!(
            "leaves no time for training: measuring the held-out data takes {seconds:.1} s, before and after: give more \
             time, or less held-out data"
        );
        Err(OptionError::new("deadline", problem).into())
    }

    /// Now, and how long the run has waited so far: without pauses, and with rests.
    fn mark(&self) -> Mark {
        Mark { at: Instant::now(), paused: self.around.pace.paused(), waited: self.around.pace.waited() }
    }

    /// The time since `mark` without pauses.
    fn worked(&self, mark: Mark) -> Duration {
        let paused = self.around.pace.paused() - mark.paused;
        Duration::from_micros(mark.at.elapsed().as_micros().saturating_sub(paused.as_micros()))
    }

    /// Counts the time since `mark` as that of training steps.
    fn count(&mut self, mark: Mark) {
        let waited = self.around.pace.waited() - mark.waited;
        self.progress.outcome.seconds += seconds(mark.at.elapsed());
        self.progress.outcome.paused_seconds += seconds(waited);
    }

    /// Whether there are no more steps to do.
    fn ended(&self) -> bool {
        self.ending || self.progress.outcome.steps >= self.around.steps || self.gave_up() || self.stopped_early()
    }

    fn gave_up(&self) -> bool {
        self.progress.not_finite >= GIVE_UP
    }

    fn stopped_early(&self) -> bool {
        self.progress.stopping.stops(self.task.options.patience)
    }

    /// Writes a checkpoint. A run that cannot is told of and goes on: the adapter is worth more, and the disk may
    /// have room next time.
    async fn save(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        match self.write(on_event).await {
            Err(error @ Error::File(loam_files::Error::Io { .. })) => {
                let message = format!("no checkpoint was written, the run goes on without: {}", error.chain());
                on_event(&Event::Note { message });
                Ok(())
            }
            written => written.map(drop),
        }
    }

    async fn write(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
        let state = State { progress: self.progress.clone(), buffers: self.trainer.buffers(self.engine).await? };
        let Some(generations) = &mut self.around.generations else {
            return Err(Error::Argument("the run has no folder for checkpoints".into()));
        };
        let path = generations.save(&state)?;
        on_event(&Event::Saved { step: self.progress.outcome.steps, path: path.clone() });
        Ok(path)
    }

    /// Puts the adapter that the run ends with on the device, and says which one that is.
    fn settle(&mut self) -> Result<()> {
        let early = self.stopped_early() && self.progress.outcome.steps < self.around.steps;
        let Progress { outcome, stopping, .. } = &mut self.progress;
        // A deadline may have left the last evaluation out.
        let last = stopping.last.filter(|(step, _)| *step == outcome.steps).map(|(_, loss)| loss);
        outcome.stopped_early = early;
        outcome.best_step = stopping.best.as_ref().map(|best| best.step);
        (outcome.adapter_step, outcome.eval_loss_after) = (outcome.steps, last);
        if let Some(best) = stopping.earlier(self.task.options.keep, outcome.steps) {
            self.trainer.set_values(self.engine, &best.values)?;
            (outcome.adapter_step, outcome.eval_loss_after) = (best.step, Some(best.loss));
        }
        Ok(())
    }

    /// The loss on the rows of the last step, where it tells whether the run was of any use: without held-out data, and
    /// where the run started from an adapter, which may be worse than none. The rows are the same for all that is
    /// compared: batches differ in how hard they are. With anything else than what was `learned` on the device the run
    /// cannot be stopped: a checkpoint would hold that.
    async fn loss_on_last_rows(&mut self, learned: bool, on_event: &mut dyn FnMut(&Event)) -> Result<Option<f64>> {
        let last = self.progress.outcome.steps.checked_sub(1);
        let Task { held_out, start, options, .. } = &self.task;
        let judged = (held_out.is_none() || start.is_some()) && !options.force;
        let Some(last) = last.filter(|_| judged) else { return Ok(None) };
        let batches = self.task.batches(self.progress.batch)?.step(last as usize)?;
        let mut sum = 0.0;
        for batch in &batches.micro {
            if learned {
                self.look(on_event).await?;
            }
            sum += self.trainer.evaluate_batch(self.engine, batch, &mut self.around.pace, on_event).await?;
        }
        Ok(Some(sum / batches.trained as f64))
    }

    async fn finish(mut self, on_event: &mut dyn FnMut(&Event)) -> Result<(AdapterFile, Outcome)> {
        self.settle()?;
        if self.progress.outcome.skipped == self.progress.outcome.steps && !self.task.options.force {
            return Err(Error::NonFinite("the gradient of every step".into()));
        }
        stopping::check(&self.task.options, &self.progress, self.task.start.is_some())?;
        let after = self.loss_on_last_rows(true, on_event).await?;
        // Before the peak is looked at: this may be it.
        let mut adapter = self.trainer.adapter(self.engine).await?;
        // The start is held-out data's to judge, where there is some.
        let start = self.task.start.as_ref().filter(|_| self.task.held_out.is_none());
        let references = start.map(Some).into_iter().chain([None]);
        for (after, reference) in references.filter_map(|reference| Some((after?, reference))) {
            self.trainer.forget(self.engine, reference)?;
            let before = self.loss_on_last_rows(false, on_event).await?;
            before.map_or(Ok(()), |before| stopping::check_rows(before, after, reference.is_some()))?;
        }
        let mut outcome = self.progress.outcome;
        let backend = &self.engine.backend;
        outcome.planned_steps = self.around.steps;
        outcome.peak_device_bytes = self.around.peak_device_bytes.max(backend.usage().memory.peak_bytes);
        outcome.times = Some(backend.usage().times.since(&self.around.times_before));
        let Task { base, data, options, .. } = self.task;
        adapter.metadata = describe(base, (options, &adapter), &data.digest, &outcome)?;
        Ok((adapter, outcome))
    }
}

/// A moment to measure from.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    /// How long all pauses, and all pauses and rests, were before it.
    paused: Duration,
    waited: Duration,
}

fn seconds(length: Duration) -> f64 {
    length.as_micros() as f64 / 1e6
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
