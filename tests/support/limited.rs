//! A device with a small binding limit, so that small weights are split as large ones are on real devices.

use loam::Result;
use loam::backend::{Backend, DeviceInfo, Pending, ProgramId, Usage};
use loam::plan::{Entry, Plan, StorageId};
use loam_shaders::Step;

/// A back end that claims a smaller limit than it has.
pub struct Limited {
    inner: Box<dyn Backend>,
    info: DeviceInfo,
}

impl Limited {
    /// `inner` with `bytes` as its binding limit.
    pub fn boxed(inner: Box<dyn Backend>, bytes: u64) -> Box<dyn Backend> {
        let mut info = inner.info().clone();
        info.limits.max_binding_bytes = bytes;
        Box::new(Self { inner, info })
    }
}

impl Backend for Limited {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn usage(&self) -> &Usage {
        self.inner.usage()
    }
    fn allocate<'a>(&'a mut self, id: StorageId, entry: &'a Entry) -> Pending<'a, ()> {
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
        let bound = plan.nodes.iter().flat_map(|node| &node.operands);
        let longest = bound.map(|view| view.words * 4).max().unwrap_or(0);
        assert!(longest <= self.info.limits.max_binding_bytes, "{} binds {longest} bytes", plan.name);
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
