//! What a run is to do: base, data, options, and what it starts from.

use crate::adapter::AdapterFile;
use crate::backend::DeviceInfo;
use crate::base::Base;
use crate::data::Dataset;
use crate::error::Result;
use crate::train::TrainOptions;
use crate::train::checkpoint::Identity;

/// What is to be trained.
pub struct Job<'a> {
    /// The base, which does not change.
    pub base: &'a Base,
    /// The adapter that the run starts from; `None` for a new one.
    pub start: Option<AdapterFile>,
    /// What is learned from.
    pub data: &'a Dataset,
    /// What is only measured, if there is any.
    pub held_out: Option<&'a Dataset>,
    /// How it is trained.
    pub options: TrainOptions,
}

impl<'a> Job<'a> {
    /// Training of a new adapter on `data` with `options`.
    pub fn new(base: &'a Base, data: &'a Dataset, options: TrainOptions) -> Self {
        Self { base, start: None, data, held_out: None, options }
    }

    /// What a checkpoint of this run on the device `info` says it is of.
    ///
    /// # Errors
    /// A tokenizer or template that cannot be read.
    pub fn identity(&self, info: &DeviceInfo) -> Result<Identity> {
        Identity::new(self.base, info, self.start.as_ref(), (self.data, self.held_out), &self.options)
    }

    /// Optimizer steps of the whole run.
    pub(super) fn steps(&self) -> Result<u64> {
        self.options.planned_steps(self.data)
    }
}
