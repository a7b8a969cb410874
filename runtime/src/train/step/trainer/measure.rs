//! Batches that are only measured: held-out data, texts, and what an objective compares with.

use loam_shaders::Step;

use super::{Pass, Purpose, Trainer, pass};
use crate::adapter::Sites;
use crate::backend::ProgramId;
use crate::data::Batch;
use crate::engine::{Engine, Resources};
use crate::error::Result;
use crate::loss::LossBuffers;

impl Trainer {
    /// Begins to measure `batch` as held-out data, without touching the adapter.
    ///
    /// # Errors
    /// As [`Self::accumulate`].
    pub async fn begin_evaluation<'b>(
        &mut self,
        engine: &mut Engine,
        batch: &'b Batch,
        reference: Vec<f64>,
    ) -> Result<Pass<'b>> {
        let pass = self.begin_measure(engine, batch).await?;
        Ok(Pass { purpose: Purpose::Measure, reference, ..pass })
    }

    /// Begins to measure the log-probability of each sequence of `batch` with the adapter, whatever the objective.
    ///
    /// # Errors
    /// As [`Self::accumulate`].
    pub async fn begin_text<'b>(&mut self, engine: &mut Engine, batch: &'b Batch) -> Result<Pass<'b>> {
        self.begin_measure(engine, batch).await
    }

    /// Runs `batch` without gradients, in the longest rows: one plan does for all lengths, and its memory is known.
    async fn begin_measure<'b>(&mut self, engine: &mut Engine, batch: &'b Batch) -> Result<Pass<'b>> {
        let (shape, rows) = (self.loss, self.options.rows());
        let program = self.evaluation(engine).await?;
        let is_shorter = batch.tokens.len() < shape.tokens() && batch.tokens.len().is_multiple_of(rows);
        let wide = is_shorter.then(|| batch.widened(rows, self.options.context));
        self.load(engine, wide.as_ref().unwrap_or(batch), shape)?;
        Ok(pass(batch, (shape, program), Step::default()))
    }

    /// Begins to measure the log-probability of each sequence of `batch` without adapter.
    ///
    /// # Errors
    /// As [`Self::accumulate`].
    pub async fn begin_reference<'b>(&mut self, engine: &mut Engine, batch: &'b Batch) -> Result<Pass<'b>> {
        let shape = self.shape_of(batch);
        let program = self.reference_program(engine, shape).await?;
        self.begin(engine, batch, (shape, program), Step::default())
    }

    /// The shape of `batch`; of an unknown one the longest, which says what is wrong.
    fn shape_of(&self, batch: &Batch) -> LossBuffers {
        let fits = self.train.iter().find(|(shape, _)| shape.tokens() == batch.tokens.len());
        fits.map_or(self.loss, |(shape, _)| *shape)
    }

    /// The program without gradients for batches of the longest rows, compiled at first use.
    async fn evaluation(&mut self, engine: &mut Engine) -> Result<ProgramId> {
        let Self { resources, sites, evaluate, loss, .. } = self;
        compiled(engine, resources, evaluate, sites, *loss).await
    }

    /// The program without gradients and without adapter.
    async fn reference_program(&mut self, engine: &mut Engine, shape: LossBuffers) -> Result<ProgramId> {
        let Self { resources, reference, .. } = self;
        compiled(engine, resources, reference, &Sites::default(), shape).await
    }
}

/// The program without gradients for batches of a shape, from `programs` or added to them.
async fn compiled(
    engine: &mut Engine,
    resources: &mut Resources,
    programs: &mut Vec<(usize, ProgramId)>,
    sites: &Sites,
    shape: LossBuffers,
) -> Result<ProgramId> {
    engine.owns(resources)?;
    if let Some((_, program)) = programs.iter().find(|(tokens, _)| *tokens == shape.tokens()) {
        return Ok(*program);
    }
    let plan = shape.plan(engine, sites, None);
    let program = engine.compile(resources, &plan).await?;
    programs.push((shape.tokens(), program));
    Ok(program)
}
