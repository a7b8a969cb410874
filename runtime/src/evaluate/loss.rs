//! The loss of a base with adapters on held-out data; the same code that training runs, without gradients.

use loam_shaders::Step;

use super::mean::Sums;
use crate::backend::ProgramId;
use crate::data::Batch;
use crate::engine::{AdapterHandle, Engine, Resources};
use crate::error::{Error, Result};
use crate::loss::LossBuffers;

/// Measures losses of a base with adapters on an engine.
#[derive(Debug)]
pub struct Scorer {
    resources: Resources,
    /// What the program binds lives as long as this.
    _adapters: AdapterHandle,
    buffers: LossBuffers,
    program: ProgramId,
}

impl Scorer {
    /// For batches of `batch` rows with `context` tokens, and a model with `adapters`.
    ///
    /// # Errors
    /// Adapters of another engine, or a device without enough memory.
    pub async fn new(engine: &mut Engine, adapters: &AdapterHandle, batch: usize, context: usize) -> Result<Self> {
        adapters.check(engine)?;
        let mut resources = engine.resources();
        let buffers = LossBuffers::new(engine, &mut resources, batch, context, None)?;
        let plan = buffers.plan(engine, adapters.sites(), None);
        engine.allocate(&[&plan]).await?;
        let program = engine.compile(&mut resources, &plan).await?;
        Ok(Self { resources, _adapters: adapters.clone(), buffers, program })
    }

    /// The log-probability in nats of each trained token of `batch`, in the order of its labels.
    ///
    /// # Errors
    /// Another engine, a batch of another shape, or a device failure.
    pub async fn log_probabilities(&mut self, engine: &mut Engine, batch: &Batch) -> Result<Vec<f32>> {
        engine.owns(&self.resources)?;
        self.buffers.run(engine, self.program, batch, &Step::default()).await?;
        self.buffers.log_probabilities(engine, batch).await
    }

    /// Mean loss in nats over all trained tokens of `batches`, and their number.
    ///
    /// # Errors
    /// Another engine, batches of another shape or without a trained token, or a device failure.
    pub async fn loss(&mut self, engine: &mut Engine, batches: &[Batch]) -> Result<(f64, usize)> {
        engine.owns(&self.resources)?;
        self.buffers.mean(engine, self.program, batches).await
    }

    /// The losses in nats of the trained tokens of each example: as many sums as the numbers of examples in `batches`
    /// reach. `on_batch` is told how many batches are done.
    ///
    /// # Errors
    /// As [`Self::loss`], and [`Error::NonFinite`].
    pub async fn examples(
        &mut self,
        engine: &mut Engine,
        batches: &[Batch],
        on_batch: &mut dyn FnMut(usize),
    ) -> Result<Vec<Sums>> {
        let count = batches.iter().flat_map(|batch| &batch.examples).max().map_or(0, |last| last + 1);
        let mut examples = vec![Sums::default(); count];
        for (index, batch) in batches.iter().enumerate() {
            let values = self.log_probabilities(engine, batch).await?;
            for (example, labels) in batch.examples.iter().zip(&batch.sequences) {
                values[labels.clone()].iter().for_each(|&value| examples[*example].add(-f64::from(value)));
            }
            on_batch(index + 1);
        }
        match examples.iter().any(|example| !example.sum.is_finite()) {
            true => Err(Error::NonFinite("the loss on the evaluation data".into())),
            false => Ok(examples),
        }
    }
}
