//! The end of a run: which adapter it ends with, whether that is of any use, and what is returned.

use super::{Driver, OnDevice, on, reference, run};
use crate::error::{Error, Result};
use crate::train::run::next::{Candidate, Chosen, Losses};
use crate::train::run::verdict;

impl Driver<'_> {
    /// Puts the adapter that the run ends with on the device, and says which one that is.
    pub(super) fn choose(&mut self) -> Result<()> {
        let is_early = self.progress.stopping.stops(self.setup.agenda.patience)
            && self.progress.outcome.steps < self.setup.agenda.steps;
        let OnDevice { trainer, batches, .. } = on(&mut self.device)?;
        let (outcome, stopping) = (&mut self.progress.outcome, &self.progress.stopping);
        // A deadline may have left the last evaluation out.
        let last = stopping.last.filter(|(step, _)| *step == outcome.steps).map(|(_, loss)| loss);
        outcome.stopped_early = is_early;
        outcome.best_step = stopping.best.as_ref().map(|best| best.step);
        (outcome.adapter_step, outcome.eval_loss_after) = (outcome.steps, last);
        let mut chosen = Chosen::Last;
        if let Some(best) = stopping.earlier(self.setup.options.keep, outcome.steps) {
            trainer.set_values(self.engine, &best.values)?;
            (outcome.adapter_step, outcome.eval_loss_after) = (best.step, Some(best.loss));
            chosen = Chosen::Best;
        }
        self.position.chosen = Some(chosen);
        self.position.micro_batches = batches.micro_batches(outcome.steps.saturating_sub(1) as usize);
        if outcome.skipped == outcome.steps && !self.setup.options.force {
            return Err(Error::NonFinite("the gradient of every step".into()));
        }
        self.refusal = verdict::check(&self.setup.options, &self.progress, self.job.start.is_some()).err();
        Ok(())
    }

    /// Measures the loss of a candidate on a batch of the last step's rows, which tells whether the run was of any
    /// use. The rows are the same for all that is compared: batches differ in how hard they are.
    pub(super) async fn judge(&mut self, candidate: usize, index: usize) -> Result<()> {
        let Self { job, setup, engine, device, events, progress, position, .. } = self;
        let OnDevice { trainer, batches, step, .. } = on(device)?;
        if index == 0 {
            match setup.agenda.judged[candidate] {
                Candidate::Trained => {}
                Candidate::Start => trainer.forget(engine, job.start.as_ref())?,
                Candidate::Untrained => trainer.forget(engine, None)?,
            }
            position.judged.truncate(candidate);
            position.judged.push(Losses::default());
        }
        let batch = &step.go_to(batches, progress.outcome.steps.saturating_sub(1))?.micro[index];
        let known = &mut progress.references.train;
        let reference = reference(engine, trainer, batch, known, &mut setup.throttle, events).await?;
        let pass = trainer.begin_evaluation(engine, batch, reference).await?;
        let sums = run(engine, trainer, pass, &mut setup.throttle, events).await?;
        position.judged[candidate].add(&sums, setup.options.objective.objective.units([batch]));
        Ok(())
    }

    /// Reads the adapter that the run ends with from the device.
    pub(super) async fn export(&mut self) -> Result<()> {
        let trainer = &mut on(&mut self.device)?.trainer;
        let words = trainer.words() as usize;
        // What was refused is of no use at all where it is not finite.
        let read = trainer.adapter(self.engine).await;
        self.adapter = Some(read.map_err(|error| self.refusal.take().unwrap_or(error))?);
        self.position.is_exported = true;
        // As words and as tensors.
        self.note_copies(2 * words);
        Ok(())
    }

    /// Judges the run, and completes what is said of it.
    pub(super) fn finish(&mut self) -> Result<()> {
        let judged: Vec<f64> = self.position.judged.iter().map(Losses::loss).collect();
        let candidates = self.setup.agenda.judged.iter().zip(&judged);
        if let Some(&after) = judged.first().filter(|_| !self.setup.options.force) {
            let check = |(candidate, before): (&Candidate, &f64)| {
                verdict::check_rows(*before, after, *candidate == Candidate::Start).err()
            };
            let refusal = candidates.skip(1).find_map(check);
            self.refusal = self.refusal.take().or(refusal);
        }
        self.progress.complete();
        if self.job.held_out.is_none() {
            // What it started from comes before an adapter that changes nothing.
            let outcome = &mut self.progress.outcome;
            (outcome.rows_loss_before, outcome.rows_loss_after) = (judged.get(1).copied(), judged.first().copied());
        }
        let usage = self.engine.backend.usage();
        let outcome = &mut self.progress.outcome;
        outcome.planned_steps = self.setup.agenda.steps;
        outcome.peak_device_bytes = self.peak_device_bytes.max(usage.memory.peak_bytes);
        outcome.times = Some(usage.times.since(&self.times_before));
        Ok(())
    }
}
