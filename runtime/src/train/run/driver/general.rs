//! The loss on a general text: what the model forgets while it learns.

use super::{Driver, OnDevice, on, run};
use crate::error::Result;
use crate::train::run::next::Losses;

impl Driver<'_> {
    /// Measures the loss on a batch of the general text, before the first step or with the adapter that was chosen.
    pub(super) async fn general(&mut self, index: usize) -> Result<()> {
        let began = self.mark();
        let Self { setup, engine, device, events, position, .. } = self;
        let OnDevice { trainer, general, .. } = on(device)?;
        let batch = &general[index];
        let pass = trainer.begin_text(engine, batch).await?;
        let sums = run(engine, trainer, pass, &mut setup.throttle, events).await?;
        position.general.add(&[-sums.iter().sum::<f64>()], batch.trained);
        self.lengths.general += self.worked(began);
        self.setup.deadline.batch = self.worked(began);
        let is_enough = match self.position.chosen {
            // The same part of it as before.
            Some(_) => self.position.general.units as u64 >= self.progress.outcome.general_tokens,
            None => self.setup.deadline.is_too_long_for_general(self.lengths.general),
        };
        if is_enough || index + 1 == self.setup.agenda.general {
            self.end_general();
        }
        Ok(())
    }

    /// Takes the loss on the whole text.
    fn end_general(&mut self) {
        let Losses { units, .. } = self.position.general;
        let loss = std::mem::take(&mut self.position.general).loss();
        self.setup.deadline.general = std::mem::take(&mut self.lengths.general);
        let outcome = &mut self.progress.outcome;
        if self.position.chosen.is_some() {
            outcome.general_loss_after = Some(loss);
        } else {
            (outcome.general_loss_before, outcome.general_tokens) = (Some(loss), units as u64);
        }
    }
}
