//! The CPU back end: runs a plan's nodes in order with host functions, inside one thread pool of its own.
//!
//! Weights stay where the file maps them and are bound as GGUF blocks; everything else is a `Vec<u32>`. A node runs its
//! kernel's `cpu` function, or the reference where there is none. Written buffers are taken out of their table while
//! a node runs, so that borrows are checked by the compiler; [`CpuBackend::compile`] has made sure that no node binds a
//! buffer it writes a second time. Running allocates nothing but what kernels need as scratch.

mod program;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::ready;

use embassy_time::{Duration, Instant};
use loam_shaders::{Step, simd};

use self::program::{Program, Stored};
use super::slots::{self, SlotPool, Taken};
use super::{
    Backend, Device, DeviceInfo, Kind, Limits, Options, Pending, Precision, ProgramId, Provider, TARGET, Usage,
};
use crate::error::{Error, Result};
use crate::option::OptionError;
use crate::plan::{Content, Entry, Plan, Pool, StorageId};
use loam_files::threads;

/// Name of the device in lists and errors.
const NAME: &str = "cpu";

/// Runs plans on the host.
#[derive(Debug)]
pub struct CpuBackend {
    info: DeviceInfo,
    pool: rayon::ThreadPool,
    stored: Vec<Option<Stored>>,
    /// Where in `stored` a buffer is.
    stored_at: HashMap<StorageId, usize>,
    programs: Vec<Option<Program>>,
    slots: SlotPool,
    /// The buffers that `slots` speaks of.
    buffers: Vec<Vec<u32>>,
    usage: Usage,
    target: Duration,
}

impl CpuBackend {
    /// A back end with `threads` threads, or as many as the process may use; fewer if the system gives no more. Results
    /// do not depend on the number.
    ///
    /// # Errors
    /// If `threads` is 0; [`loam_files::Error::Threads`].
    pub fn new(threads: Option<usize>) -> Result<Self> {
        if threads == Some(0) {
            return Err(OptionError::range("threads", 0, "at least 1").into());
        }
        let pool = threads::pool(threads)?;
        Ok(Self {
            info: device(pool.current_num_threads()),
            pool,
            stored: Vec::new(),
            stored_at: HashMap::new(),
            programs: Vec::new(),
            slots: SlotPool::default(),
            buffers: Vec::new(),
            usage: Usage::default(),
            target: TARGET,
        })
    }

    /// The same with submissions of about `target`: what [`Options::target`] is to those who open a device by name.
    #[must_use]
    pub fn with_target(mut self, target: Duration) -> Self {
        self.target = target;
        self
    }

    /// Allocates and fills a stored buffer.
    fn store(&mut self, id: StorageId, entry: &Entry) -> Result<()> {
        self.release(id);
        let stored = stored(entry)?;
        self.usage.memory.add(stored.pool(), stored.bytes());
        let place = *self.stored_at.entry(id).or_insert(self.stored.len());
        if place == self.stored.len() {
            self.stored.push(None);
        }
        self.stored[place] = Some(stored);
        Ok(())
    }

    fn add_program(&mut self, plan: &Plan) -> Result<ProgramId> {
        let taken = self.slots.take(&plan.slots);
        self.buffers.resize_with(self.slots.places(), Vec::new);
        let program = Program::new(plan, (&self.stored, &self.stored_at), taken.places.clone());
        let program = match program.and_then(|program| self.allocate_slots(&taken, &plan.name).map(|()| program)) {
            Ok(program) => program,
            Err(error) => {
                self.free(&taken.places);
                return Err(error);
            }
        };
        self.usage.memory.add(Pool::Activations, taken.new_bytes());
        self.programs.push(Some(program));
        Ok(ProgramId(self.programs.len() as u32 - 1))
    }

    /// Allocates the buffers in `taken` that are new.
    fn allocate_slots(&mut self, taken: &Taken, plan: &str) -> Result<()> {
        for &(place, words) in &taken.new {
            self.buffers[place] = zeros(words, &format!("slot {place} of plan {plan}"))?;
        }
        Ok(())
    }

    /// Frees the buffers at `places` that no other program uses. Returns how many bytes they had.
    fn free(&mut self, places: &[usize]) -> u64 {
        let unused = self.slots.give_back(places);
        unused.iter().for_each(|&(place, _)| self.buffers[place] = Vec::new());
        slots::bytes(&unused)
    }

    /// Runs a program from node `first` on, until about `end`. Returns the next node, if there is one.
    fn run_until(&mut self, id: ProgramId, step: &Step, first: usize, end: Instant) -> Result<Option<usize>> {
        let Self { pool, stored, programs, buffers, .. } = self;
        let Some(program) = programs.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return Err(failure(format!("program {} is not compiled", id.0)));
        };
        pool.install(|| program.run((stored, buffers), step, first, end))
    }

    fn words(&mut self, id: StorageId, offset: u64, len: u64) -> Result<&mut [u32]> {
        let stored = self.stored_at.get(&id).and_then(|&place| self.stored[place].as_mut());
        let Some(Stored::Words { words, name, .. }) = stored else {
            return Err(failure(format!("stored buffer {} is not allocated, or is a weight", id.0)));
        };
        let (total, end) = (words.len() as u64, offset.checked_add(len));
        match end.filter(|&end| end <= total) {
            Some(end) => Ok(&mut words[offset as usize..end as usize]),
            None => Err(failure(format!("{len} words at {offset} are outside of {name}, which has {total}"))),
        }
    }
}

/// The CPU.
pub static PROVIDER: Provider = Provider {
    name: NAME,
    may_have_gpu: None,
    devices: || {
        Box::pin(ready(Ok(vec![Device { info: info(), open: Box::new(|options| Box::pin(ready(open(&options)))) }])))
    },
};

/// The CPU as device lists show it, before any back end is opened on it.
pub fn info() -> DeviceInfo {
    device(threads::available())
}

fn open(options: &Options) -> Result<Box<dyn Backend>> {
    Ok(Box::new(CpuBackend::new(None)?.with_target(options.target)))
}

fn device(threads: usize) -> DeviceInfo {
    DeviceInfo {
        name: NAME.into(),
        backend: NAME.into(),
        kind: Kind::Cpu,
        features: simd::features().into_iter().map(String::from).collect(),
        driver: if threads == 1 { "1 thread".into() } else { format!("{threads} threads") },
        limits: Limits { max_binding_bytes: u64::MAX, max_buffer_bytes: u64::MAX },
        offers: Vec::new(),
        precisions: vec![Precision::F32],
        precision: Precision::F32,
        memory_bytes: None,
        rehearsed: false,
    }
}

fn failure(problem: String) -> Error {
    Error::Device { device: NAME.into(), problem: problem.into() }
}

/// `words` zeros, or an error instead of an abort when the system has no room for them.
fn zeros(words: u64, what: &str) -> Result<Vec<u32>> {
    crate::host::check(what, words.saturating_mul(4))?;
    let refuse = || Error::OutOfMemory { device: NAME.into(), what: what.into(), bytes: words.saturating_mul(4) };
    let len = usize::try_from(words).map_err(|_| refuse())?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| refuse())?;
    buffer.resize(len, 0);
    Ok(buffer)
}

/// The entry as this back end keeps it.
fn stored(entry: &Entry) -> Result<Stored> {
    let (name, pool) = (entry.name.clone(), entry.pool);
    if let Content::Weight { format, rows, cols, blocks } = &entry.content {
        let expected = format.row_bytes(*cols).and_then(|bytes| bytes.checked_mul(*rows));
        if expected.map(|bytes| bytes as u64) != Some(blocks.length()) {
            let problem = format!("{name}: {} bytes for {rows} x {cols} {}", blocks.length(), format.name());
            return Err(failure(problem));
        }
        return Ok(Stored::Blocks { name, pool, blocks: blocks.load()?, packed_words: entry.words });
    }
    let mut words = zeros(entry.words, &name)?;
    if let Content::Words(content) = &entry.content {
        if content.len() != words.len() {
            return Err(failure(format!("{name}: {} words of content for {}", content.len(), words.len())));
        }
        words.copy_from_slice(content);
    }
    Ok(Stored::Words { name, pool, words })
}

impl Backend for CpuBackend {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn usage(&self) -> &Usage {
        &self.usage
    }

    fn allocate<'a>(&'a mut self, id: StorageId, entry: &'a Entry) -> Pending<'a, ()> {
        Box::pin(ready(self.store(id, entry)))
    }

    fn release(&mut self, id: StorageId) {
        let place = self.stored_at.get(&id).copied();
        if let Some(old) = place.and_then(|place| self.stored[place].take()) {
            self.usage.memory.sub(old.pool(), old.bytes());
        }
    }

    fn write(&mut self, id: StorageId, offset: u64, words: &[u32]) -> Result<()> {
        self.words(id, offset, words.len() as u64)?.copy_from_slice(words);
        Ok(())
    }

    fn read(&mut self, id: StorageId, offset: u64, words: u64) -> Pending<'_, Vec<u32>> {
        Box::pin(ready(self.words(id, offset, words).map(|words| words.to_vec())))
    }

    fn compile<'a>(&'a mut self, plan: &'a Plan) -> Pending<'a, ProgramId> {
        Box::pin(ready(self.add_program(plan)))
    }

    fn discard(&mut self, program: ProgramId) {
        if let Some(old) = self.programs.get_mut(program.0 as usize).and_then(Option::take) {
            let freed = self.free(&old.places);
            self.usage.memory.sub(Pool::Activations, freed);
        }
    }

    fn run(&mut self, program: ProgramId, step: &Step, part: usize) -> Result<Option<usize>> {
        let began = Instant::now();
        // Times vary: those that are measured are to stay below the target.
        let next = self.run_until(program, step, part, began + self.target * 3 / 4)?;
        self.usage.times.add(began.elapsed().as_micros());
        Ok(next)
    }

    fn settle(&mut self) -> Pending<'_, ()> {
        Box::pin(ready(Ok(())))
    }
}
