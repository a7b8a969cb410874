//! The loss of a base with adapters on held-out data; the same code that training runs, without gradients.

use crate::adapter::Attach;
use crate::backend::{Backend, ProgramId};
use crate::base::Base;
use crate::data::Batch;
use crate::engine::Engine;
use crate::error::Result;
use crate::loss::LossBuffers;

/// A base with adapters on a device, ready to measure losses.
pub struct Evaluator {
    engine: Engine,
    buffers: LossBuffers,
    program: ProgramId,
}

impl Evaluator {
    /// Puts `base` and `adapters` on `backend` for batches of `batch` rows with `context` tokens.
    ///
    /// # Errors
    /// An adapter that does not fit the base, or a device without enough memory.
    pub fn new(
        base: &Base,
        backend: Box<dyn Backend>,
        adapters: &[Attach<'_>],
        batch: usize,
        context: usize,
    ) -> Result<Self> {
        let mut engine = Engine::new(base, backend)?;
        let sites = engine.attach(base, adapters)?;
        let buffers = LossBuffers::new(&mut engine, batch, context, None)?;
        let plan = buffers.plan(&engine, &sites, None);
        engine.provide(&[&plan])?;
        let program = engine.backend.compile(&plan)?;
        Ok(Self { engine, buffers, program })
    }

    /// The engine, for reports on device and memory.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Mean loss in nats over all trained tokens of `batches`, and their number.
    ///
    /// # Errors
    /// Batches of another shape or without a trained token, or a device failure.
    pub async fn loss(&mut self, batches: &[Batch]) -> Result<(f64, usize)> {
        self.buffers.mean(&mut self.engine, self.program, batches).await
    }
}
