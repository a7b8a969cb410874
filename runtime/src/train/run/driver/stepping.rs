//! Micro-batches, updates, and what keeps them: checkpoints and copies.

use std::path::PathBuf;

use embassy_time::Instant;

use super::{Driver, OnDevice, on, reference, run};
use crate::error::{Error, Result};
use crate::option::OptionError;
use crate::train::checkpoint::State;
use crate::train::objective;
use crate::train::run::Event;
use crate::train::run::next::gave_up;
use crate::train::{MicroBatch, StepReport};

impl Driver<'_> {
    /// Runs a micro-batch of the present step.
    pub(super) async fn micro_batch(&mut self, micro: usize) -> Result<()> {
        let began = self.mark();
        let Self { setup, engine, device, events, progress, .. } = self;
        let OnDevice { trainer, batches, step, .. } = on(device)?;
        let step = step.go_to(batches, progress.outcome.steps)?;
        let batch = &step.micro[micro];
        let known = &mut progress.references.train;
        let reference = reference(engine, trainer, batch, known, &mut setup.throttle, events).await?;
        let units = setup.options.objective.objective.units(&step.micro);
        let micro = MicroBatch { batch, number: micro, units, reference };
        let pass = trainer.begin_micro_batch(engine, micro)?;
        let sums = run(engine, trainer, pass, &mut setup.throttle, events).await?;
        objective::add(&mut progress.sums, &sums);
        progress.micro += 1;
        let length = self.worked(began);
        self.setup.deadline.batch = length;
        self.lengths.step += length;
        self.count(began);
        Ok(())
    }

    /// Updates the adapter, which ends the step.
    pub(super) async fn update(&mut self) -> Result<()> {
        let began = self.mark();
        let Self { setup, engine, device, progress, lengths, .. } = self;
        let OnDevice { trainer, batches, step, .. } = on(device)?;
        let number = progress.outcome.steps + 1;
        let options = &setup.options;
        // Where the run ends with its time the rate falls over the steps that there is time for; one that is kept
        // continues another day.
        let left = setup.deadline.steps_left(setup.began.elapsed(), lengths.done, lengths.steps);
        let total = left
            .filter(|_| lengths.done > 0 && setup.save.is_none())
            .map_or(u64::MAX, |left| number.saturating_add(left));
        let lr = options.lr * options.schedule.factor(number, options.warmup, setup.agenda.steps.min(total));
        let grad_norm = trainer.update(engine, lr).await?;
        let made = step.go_to(batches, number - 1)?;
        let objective = options.objective.objective;
        let metrics = objective.means(&progress.sums, objective.units(&made.micro));
        let report = StepReport { metrics, lr, grad_norm, trained_tokens: made.trained, tokens: made.tokens_used };
        progress.count(&report, trainer.updates());
        self.position.micro_batches = batches.micro_batches(number as usize);
        self.lengths.step += self.worked(began);
        self.count(began);
        self.setup.deadline.step = std::mem::take(&mut self.lengths.step);
        self.lengths.steps += self.setup.deadline.step;
        self.lengths.done += 1;
        if self.job.held_out.is_none() {
            // What is measured at the end takes no longer than a step: two times forward.
            self.setup.deadline.evaluation = self.setup.deadline.step;
        }
        let grad_norm = report.grad_norm;
        self.events.send(Event::Step { step: number, report, seconds: self.progress.outcome.seconds });
        self.check_gradient(number, grad_norm)
    }

    /// A gradient that is zero everywhere is no success: the adapter's values are so large that all logits are alike.
    fn check_gradient(&mut self, step: u64, grad_norm: f32) -> Result<()> {
        if grad_norm == 0.0 && !self.is_flat {
            self.is_flat = true;
            self.events.note(format!(
                "the gradient of step {step} is 0 everywhere: nothing is learned from here on; a lower lr may help"
            ));
        }
        if gave_up(&self.progress) && !self.setup.options.force {
            let steps = self.progress.not_finite;
            return Err(Error::NonFinite(format!("the gradient of {steps} steps in a row, up to step {step},")));
        }
        Ok(())
    }

    /// Writes a checkpoint that is due. A run that cannot reports it and continues: the adapter is worth more, and the
    /// disk may have room next time.
    pub(super) async fn checkpoint(&mut self) -> Result<()> {
        self.position.saved = self.progress.outcome.steps;
        match self.write().await {
            Err(error @ Error::File(loam_files::Error::Io { .. })) => {
                let error = error.chain();
                self.events.note(format!("no checkpoint was written, the run continues without: {error}"));
                Ok(())
            }
            written => written.map(drop),
        }
    }

    /// Writes a checkpoint, where the run has a folder for them.
    async fn write(&mut self) -> Result<Option<PathBuf>> {
        if self.setup.save.is_none() {
            return Ok(None);
        }
        // The checkpoint says which bytes the run is on.
        self.job.base.check_unchanged()?;
        let state = self.state().await?;
        self.note_copies(state.words());
        let path = self.setup.save.as_mut().map(|save| save(&state)).transpose()?;
        if let Some(path) = path.clone() {
            self.events.send(Event::Saved { step: self.progress.outcome.steps, path });
        }
        Ok(path)
    }

    /// All that a run needs to continue.
    async fn state(&mut self) -> Result<State> {
        let summed = self.progress.micro > 0;
        let buffers = on(&mut self.device)?.trainer.buffers(self.engine, summed).await?;
        Ok(State { progress: self.progress.clone(), buffers })
    }

    /// Takes a copy for a recovery.
    pub(super) async fn copy(&mut self) -> Result<()> {
        let began = Instant::now();
        self.position.copied = self.progress.outcome.steps;
        let state = self.state().await?;
        self.note_copies(state.words());
        self.setup.recovery.keep(state, began);
        Ok(())
    }

    /// Ends before the last step because the time is over.
    pub(super) async fn end_early(&mut self) -> Result<()> {
        let (step, steps) = (self.progress.outcome.steps, self.setup.agenda.steps);
        if self.setup.save.is_some() {
            self.checkpoint().await?;
        }
        if step == 0 {
            let problem = format!("is over before the first of {steps} steps: give more time");
            return Err(OptionError::new("deadline", problem).into());
        }
        self.events.note(format!("the time is over after {step} of {steps} steps"));
        self.position.is_time_over = true;
        // What was left out for the next step's sake may have the time now.
        self.position.skipped_evaluation = None;
        Ok(())
    }

    /// Stops, with a checkpoint where the run has a folder for them.
    pub(super) async fn stop(&mut self) -> Result<()> {
        let checkpoint = self.write().await?;
        Err(Error::Stopped { step: self.progress.outcome.steps, steps: self.setup.agenda.steps, checkpoint })
    }
}
