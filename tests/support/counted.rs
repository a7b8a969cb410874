//! A back end that counts how often weights travel to its device.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use embassy_time::Duration;
use loam::Result;
use loam::backend::{Backend, DeviceInfo, Memory, ProgramId, Reading};
use loam::plan::{Entry, Plan, Pool, StorageId};
use loam_shaders::Step;

/// A back end, and the parts of weights that were put on its device so far.
pub struct Counted {
    inner: Box<dyn Backend>,
    weights: Arc<AtomicUsize>,
}

impl Counted {
    /// `inner` with a counter.
    pub fn boxed(inner: Box<dyn Backend>) -> (Box<dyn Backend>, Arc<AtomicUsize>) {
        let weights = Arc::new(AtomicUsize::new(0));
        (Box::new(Self { inner, weights: Arc::clone(&weights) }), weights)
    }
}

impl Backend for Counted {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }
    fn provide(&mut self, id: StorageId, entry: &Entry) -> Result<()> {
        self.weights.fetch_add(usize::from(entry.pool == Pool::Weights), Ordering::Relaxed);
        self.inner.provide(id, entry)
    }
    fn release(&mut self, id: StorageId) {
        self.inner.release(id);
    }
    fn write(&mut self, id: StorageId, offset: u64, words: &[u32]) -> Result<()> {
        self.inner.write(id, offset, words)
    }
    fn read(&mut self, id: StorageId, offset: u64, words: u64) -> Reading<'_> {
        self.inner.read(id, offset, words)
    }
    fn compile(&mut self, plan: &Plan) -> Result<ProgramId> {
        self.inner.compile(plan)
    }
    fn discard(&mut self, program: ProgramId) {
        self.inner.discard(program);
    }
    fn run(&mut self, program: ProgramId, step: &Step) -> Result<()> {
        self.inner.run(program, step)
    }
    fn set_target(&mut self, target: Duration) {
        self.inner.set_target(target);
    }
    fn memory(&self) -> &Memory {
        self.inner.memory()
    }
}
