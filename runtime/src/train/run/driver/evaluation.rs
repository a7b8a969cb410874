//! The loss on held-out data, batch by batch.

use std::sync::Arc;

use embassy_time::Duration;

use super::{Driver, OnDevice, on, reference, run, seconds};
use crate::data::Batches;
use crate::error::{Error, Result};
use crate::option::OptionError;
use crate::train::run::next::Losses;
use crate::train::run::{Best, Event};

impl Driver<'_> {
    /// Measures the loss on a batch of the held-out data.
    pub(super) async fn evaluate(&mut self, index: usize) -> Result<()> {
        let began = self.mark();
        let Self { setup, engine, device, events, progress, .. } = self;
        let OnDevice { trainer, held_out, .. } = on(device)?;
        let step = held_out.as_ref().map(|batches: &Batches<'_>| batches.step(index)).transpose()?;
        // A step of held-out data has one micro-batch.
        for batch in step.iter().flat_map(|step| &step.micro) {
            let known = &mut progress.references.held_out;
            let reference = reference(engine, trainer, batch, known, &mut setup.throttle, events).await?;
            let pass = trainer.begin_evaluation(engine, batch, reference).await?;
            let sums = run(engine, trainer, pass, &mut setup.throttle, events).await?;
            self.position.evaluation.add(&sums, setup.options.objective.objective.units([batch]));
        }
        let length = self.worked(began);
        self.setup.deadline.batch = length;
        self.lengths.evaluation += length;
        if self.progress.outcome.steps == 0 && index > 0 {
            let shortest = self.lengths.shortest.map_or(length, |shortest| shortest.min(length));
            self.lengths.shortest = Some(shortest);
            return self.check_deadline(shortest, index + 1);
        }
        Ok(())
    }

    /// Ends the run before its first step if the held-out data alone takes the time: `done` batches took `shortest` or
    /// longer each, and there are the others, and all of them once more in the end.
    fn check_deadline(&self, shortest: Duration, done: usize) -> Result<()> {
        let count = self.setup.agenda.held_out.unwrap_or(0);
        let time = |batches: usize| Duration::from_micros(shortest.as_micros().saturating_mul(batches as u64));
        if self.setup.deadline.allows(self.setup.began.elapsed(), time(2 * count - done)) {
            return Ok(());
        }
        let seconds = seconds(time(count));
        let problem = format!(
            "leaves no time for training: measuring the held-out data takes {seconds:.1} s, before and after: give more \
             time, or less held-out data"
        );
        Err(OptionError::new("deadline", problem).into())
    }

    /// Takes the held-out loss of the present step, and keeps the adapter if it is the best so far.
    pub(super) async fn compare(&mut self) -> Result<()> {
        let began = self.mark();
        let measured = std::mem::take(&mut self.position.evaluation);
        let (step, loss) = (self.progress.outcome.steps, measured.loss());
        let metrics = self.setup.options.objective.objective.means(&measured.sums, measured.units);
        let before = self.progress.outcome.eval_loss_before;
        let mut is_best = false;
        if step == 0 {
            self.progress.outcome.eval_loss_before = Some(mean(&measured)?);
        } else {
            let taken = self.progress.stopping.take(step, loss, before);
            is_best = taken.better;
            if taken.lowest {
                self.keep_best(step, loss).await?;
            }
        }
        self.progress.evaluated = Some(step);
        self.progress.history.evaluated(step, metrics.clone());
        self.setup.deadline.evaluation = std::mem::take(&mut self.lengths.evaluation) + self.worked(began);
        self.events.send(Event::Evaluated { step, metrics, best: is_best });
        Ok(())
    }

    /// Copies the adapter to the host.
    async fn keep_best(&mut self, step: u64, loss: f64) -> Result<()> {
        // The one before is not needed any more: if the device fails now, all is done again from an older state.
        self.progress.stopping.best = None;
        let values = Arc::new(on(&mut self.device)?.trainer.values(self.engine).await?);
        self.progress.stopping.best = Some(Best { step, loss, values });
        self.note_copies(0);
        Ok(())
    }

    /// Leaves the evaluation out because the time is over.
    pub(super) fn skip_evaluation(&mut self) -> Result<()> {
        let step = self.progress.outcome.steps;
        self.position.skipped_evaluation = Some(step);
        if self.setup.agenda.has_ended(&self.progress, &self.position) {
            self.events.note(format!("the held-out loss after step {step} is not measured: the time is over"));
        }
        Ok(())
    }
}

/// The loss before the first step, which must be a number.
fn mean(measured: &Losses) -> Result<f64> {
    if measured.units == 0 {
        return Err(Error::Argument("the evaluation data has no token with a loss".into()));
    }
    if !measured.loss().is_finite() {
        return Err(Error::NonFinite("the loss on the evaluation data".into()));
    }
    Ok(measured.loss())
}
