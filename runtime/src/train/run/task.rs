//! What a run is to do: base, data, options, and what it starts from.

use crate::adapter::AdapterFile;
use crate::backend::Backend;
use crate::base::Base;
use crate::data::{Batches, Dataset};
use crate::engine::Engine;
use crate::error::Result;
use crate::train::checkpoint::Identity;
use crate::train::{TrainOptions, Trainer};

/// What is to be done.
pub(super) struct Task<'a> {
    pub base: &'a Base,
    /// The adapter that the run starts from, if not from a new one.
    pub start: Option<AdapterFile>,
    pub data: &'a Dataset,
    pub held_out: Option<&'a Dataset>,
    pub options: TrainOptions,
}

impl Task<'_> {
    pub fn identity(&self, backend: &dyn Backend) -> Result<Identity> {
        let data = (self.data, self.held_out);
        Identity::new(self.base, backend.info(), self.start.as_ref(), data, &self.options)
    }

    /// The options in micro-batches of `batch` rows, which divides the number that was asked for.
    fn divided(&self, batch: usize) -> TrainOptions {
        let accumulate = self.options.accumulate * (self.options.batch / batch);
        TrainOptions { batch, accumulate, ..self.options.clone() }
    }

    pub fn trainer(&self, engine: &mut Engine, batch: usize) -> Result<Trainer> {
        Trainer::new(engine, self.start.clone(), self.divided(batch))
    }

    pub fn batches(&self, batch: usize) -> Result<Batches<'_>> {
        Batches::new(&self.data.examples, self.divided(batch).batches())
    }

    /// Optimizer steps of the whole run.
    pub fn steps(&self) -> Result<u64> {
        let steps =
            || Ok(self.options.epochs.saturating_mul(self.batches(self.options.batch)?.steps_per_epoch() as u64));
        self.options.steps.map_or_else(steps, Ok)
    }
}
