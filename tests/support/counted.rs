//! A back end that counts how often weights travel to its device.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loam::Result;
use loam::backend::{Backend, DeviceInfo, Pending, ProgramId, Usage};
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
    fn usage(&self) -> &Usage {
        self.inner.usage()
    }
    fn allocate<'a>(&'a mut self, id: StorageId, entry: &'a Entry) -> Pending<'a, ()> {
        self.weights.fetch_add(usize::from(entry.pool == Pool::Weights), Ordering::Relaxed);
        self.inner.allocate(id, entry)
    }
    fn release(&mut self, id: StorageId) {
        self.inner.release(id);
    }
    fn write(&mut self, id: StorageId, offset: u64, words: &[u32]) -> Result<()> {
        self.inner.write(id, offset, words)
    }
    fn read(&mut self, id: StorageId, offset: u64, words: u64) -> Pending<'_, Vec<u32>> {
        self.inner.read(id, offset, words)
    }
    fn compile<'a>(&'a mut self, plan: &'a Plan) -> Pending<'a, ProgramId> {
        self.inner.compile(plan)
    }
    fn discard(&mut self, program: ProgramId) {
        self.inner.discard(program);
    }
    fn run(&mut self, program: ProgramId, step: &Step, part: usize) -> Result<Option<usize>> {
        self.inner.run(program, step, part)
    }
    fn settle(&mut self) -> Pending<'_, ()> {
        self.inner.settle()
    }
}
