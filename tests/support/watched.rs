//! A back end that asks before it does something, so that a test can see every call and make it fail.

use embassy_time::Duration;
use loam::backend::{Backend, DeviceInfo, Memory, ProgramId, Reading, Times};
use loam::plan::{Entry, Plan, StorageId};
use loam::{Error, Result};
use loam_shaders::Step;

/// What a back end is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Allocate a stored buffer.
    Provide,
    /// Compile a plan.
    Compile,
    /// Run a program.
    Run,
    /// Write to a stored buffer.
    Write,
    /// Read a stored buffer.
    Read,
}

/// A back end under a watcher.
pub struct Watched<B, F> {
    /// What does the work.
    pub inner: B,
    /// What it says it is: that of `inner` unless it is changed.
    pub info: DeviceInfo,
    ask: F,
}

impl<B: Backend, F: FnMut(&mut B, Call) -> Result<()>> Watched<B, F> {
    /// Asks `ask` before each call; an error is what the call returns then.
    pub fn new(inner: B, ask: F) -> Self {
        Self { info: inner.info().clone(), inner, ask }
    }
}

/// What a device that is gone says.
pub fn lost() -> Error {
    Error::DeviceLost { device: "watched".into(), reason: "a test took it".into() }
}

/// What a device without memory says.
pub fn full() -> Error {
    Error::OutOfMemory { device: "watched".into(), what: "a buffer".into(), bytes: 1 }
}

impl<B: Backend, F: FnMut(&mut B, Call) -> Result<()> + Send> Backend for Watched<B, F> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn provide(&mut self, id: StorageId, entry: &Entry) -> Result<()> {
        (self.ask)(&mut self.inner, Call::Provide)?;
        self.inner.provide(id, entry)
    }

    fn release(&mut self, id: StorageId) {
        self.inner.release(id);
    }

    fn write(&mut self, id: StorageId, offset: u64, words: &[u32]) -> Result<()> {
        (self.ask)(&mut self.inner, Call::Write)?;
        self.inner.write(id, offset, words)
    }

    fn read(&mut self, id: StorageId, offset: u64, words: u64) -> Reading<'_> {
        match (self.ask)(&mut self.inner, Call::Read) {
            Ok(()) => self.inner.read(id, offset, words),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn compile(&mut self, plan: &Plan) -> Result<ProgramId> {
        (self.ask)(&mut self.inner, Call::Compile)?;
        self.inner.compile(plan)
    }

    fn discard(&mut self, program: ProgramId) {
        self.inner.discard(program);
    }

    fn run(&mut self, program: ProgramId, step: &Step) -> Result<()> {
        (self.ask)(&mut self.inner, Call::Run)?;
        self.inner.run(program, step)
    }

    fn run_part(&mut self, program: ProgramId, step: &Step, part: usize) -> Result<Option<usize>> {
        (self.ask)(&mut self.inner, Call::Run)?;
        self.inner.run_part(program, step, part)
    }

    fn set_target(&mut self, target: Duration) {
        self.inner.set_target(target);
    }

    fn settle(&mut self) -> Result<()> {
        self.inner.settle()
    }

    fn times(&self) -> Option<&Times> {
        self.inner.times()
    }

    fn memory(&self) -> &Memory {
        self.inner.memory()
    }
}
