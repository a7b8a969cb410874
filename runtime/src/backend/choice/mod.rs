//! Which of several kernels runs.
//!
//! Plans record one kernel for a product. Others with its bindings and parameters may run in its place: variants with
//! the same bits and other tiles, of which [`tuning`] takes the fastest, and kernels in less than single precision, of
//! which [`precision`] takes the first that is right on the device. Both change a plan before it is compiled and use
//! nothing but the trait of back ends, so that every back end gets them.

mod bench;
mod precision;
mod tuning;

use std::collections::BTreeMap;
use std::path::PathBuf;

use loam_shaders::Step;

use self::precision::Replacements;
use self::tuning::Tuner;
use super::{Backend, DeviceInfo, Options, Pending, Precision, ProgramId, Tuning, Usage};
use crate::error::Result;
use crate::plan::{Entry, Plan, StorageId};

/// `backend` with kernels chosen as `options` say; `backend` itself where there is nothing to choose.
pub fn among_kernels(backend: Box<dyn Backend>, options: &Options) -> Box<dyn Backend> {
    let tuned = match options.tuning {
        Tuning::Off => false,
        Tuning::RealGpus => backend.info().kind.is_real_gpu(),
        Tuning::Always => true,
    };
    match tuned || backend.info().precision != Precision::F32 {
        true if tuned => Box::new(Choosing::new(backend).tuned(options.tuning_folder.clone())),
        true => Box::new(Choosing::new(backend)),
        false => backend,
    }
}

/// A back end that chooses among kernels before it compiles a plan.
pub struct Choosing {
    inner: Box<dyn Backend>,
    tuner: Option<Tuner>,
    replacements: Replacements,
}

impl Choosing {
    /// Chooses for `inner` among kernels of its precision.
    pub fn new(inner: Box<dyn Backend>) -> Self {
        Self { inner, tuner: None, replacements: Replacements::default() }
    }

    /// The same, and chooses the fastest of kernels with the same bits. What is measured is kept in `folder`, if there
    /// is one.
    #[must_use]
    pub fn tuned(mut self, folder: Option<PathBuf>) -> Self {
        self.tuner = Some(Tuner::new(self.inner.info(), folder));
        self
    }

    /// Kernels by shape class, as measured so far; none if nothing is measured.
    pub fn choices(&self) -> Option<&BTreeMap<String, String>> {
        self.tuner.as_ref().map(Tuner::choices)
    }

    /// Kernels and those in less precision that run in their place: see [`Precision`]. `None` where the device gets
    /// every one wrong.
    pub fn replacements(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        self.replacements.names()
    }

    async fn choose_and_compile(&mut self, plan: &Plan) -> Result<ProgramId> {
        let mut chosen = plan.clone();
        if let Some(tuner) = &mut self.tuner {
            tuner.improve(&mut *self.inner, &mut chosen).await?;
        }
        self.replacements.replace(&mut *self.inner, &mut chosen).await?;
        self.inner.compile(&chosen).await
    }
}

impl Backend for Choosing {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
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
        Box::pin(self.choose_and_compile(plan))
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
