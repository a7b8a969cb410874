//! A back end that asks before it does something, so that a test can see every call and make it fail.

use std::future::ready;

use loam::backend::{Backend, DeviceInfo, Pending, ProgramId, Usage};
use loam::plan::{Entry, Plan, StorageId};
use loam::{Error, Result};
use loam_shaders::Step;

/// What a back end is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Allocate a stored buffer.
    Allocate,
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

    fn usage(&self) -> &Usage {
        self.inner.usage()
    }

    fn allocate<'a>(&'a mut self, id: StorageId, entry: &'a Entry) -> Pending<'a, ()> {
        match (self.ask)(&mut self.inner, Call::Allocate) {
            Ok(()) => self.inner.allocate(id, entry),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn release(&mut self, id: StorageId) {
        self.inner.release(id);
    }

    fn write(&mut self, id: StorageId, offset: u64, words: &[u32]) -> Result<()> {
        (self.ask)(&mut self.inner, Call::Write)?;
        self.inner.write(id, offset, words)
    }

    fn read(&mut self, id: StorageId, offset: u64, words: u64) -> Pending<'_, Vec<u32>> {
        match (self.ask)(&mut self.inner, Call::Read) {
            Ok(()) => self.inner.read(id, offset, words),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn compile<'a>(&'a mut self, plan: &'a Plan) -> Pending<'a, ProgramId> {
        match (self.ask)(&mut self.inner, Call::Compile) {
            Ok(()) => self.inner.compile(plan),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn discard(&mut self, program: ProgramId) {
        self.inner.discard(program);
    }

    fn run(&mut self, program: ProgramId, step: &Step, part: usize) -> Result<Option<usize>> {
        (self.ask)(&mut self.inner, Call::Run)?;
        self.inner.run(program, step, part)
    }

    fn settle(&mut self) -> Pending<'_, ()> {
        self.inner.settle()
    }
}
