//! How much memory a training run takes, known before it takes any.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::thread::available_parallelism;

use crate::adapter::AdapterFile;
use crate::backend::select::drivers_are_loaded;
use crate::backend::{DeviceInfo, Kind, Memory, Rehearsal};
use crate::base::Base;
use crate::data::{Batch, Dataset};
use crate::engine::Engine;
use crate::error::Result;
use crate::host::heap::{self, Gauge, bytes_of};
use crate::plan::{Checkpointing, Pool};
use crate::train::{TrainOptions, Trainer};

/// The memory of a training run, and what was chosen for it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPlan {
    /// Most bytes of all buffers on the device at once. Weights that the CPU uses where the file is mapped count whole.
    pub peak_device_bytes: u64,
    /// Largest resident set of the process, if it has nothing else to do: the sum of `host`, or what loading took if that was more.
    /// `None` in a program that does not count its heap ([`heap::CountingAllocator`]).
    pub peak_host_bytes: Option<u64>,
    /// Bytes on the device while it trains.
    pub pools: BTreeMap<Pool, u64>,
    /// Bytes of the process at its peak.
    pub host: HostMemory,
    /// Rows of a micro-batch.
    pub micro_batch: usize,
    /// Micro-batches of a step.
    pub accumulate: usize,
    /// What is kept of the forward pass.
    pub checkpointing: Checkpointing,
    /// Rows of logits that exist at once.
    pub loss_chunk: usize,
    /// Kind of the device.
    pub kind: Kind,
}

/// What the process has in memory at its peak, in bytes. All but the first two follow from file, data and options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostMemory {
    /// Code, and what threads compute with: as measured.
    pub program: u64,
    /// Drivers of GPUs and their compilers: as measured with Mesa's. Drivers differ.
    pub driver: u64,
    /// The base's file, all of which is read where it is mapped.
    pub file: u64,
    /// Metadata, tokenizer and chat template.
    pub model: u64,
    /// Examples, and the adapter that the run starts from.
    pub data: u64,
    /// What of the device's buffers is the host's memory, without the mapped file.
    pub buffers: u64,
    /// Everything else that the run has on the heap when it has most: plans, and copies of adapter and optimizer on their way to
    /// a file.
    pub work: u64,
}

impl HostMemory {
    /// Name and bytes of each.
    pub fn pools(&self) -> [(&'static str, u64); 7] {
        let Self { program, driver, file, model, data, buffers, work } = *self;
        [
            ("program", program),
            ("driver", driver),
            ("file", file),
            ("model", model),
            ("data", data),
            ("buffers", buffers),
            ("work", work),
        ]
    }

    /// All together.
    pub fn bytes(&self) -> u64 {
        self.pools().iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// Most bytes that a prediction of a small process was short of; of large ones it is 5 %.
const MARGIN: u64 = 4 << 20;

impl MemoryPlan {
    /// The smallest budget that the run keeps to. A budget bounds the process, where what is on the device is in it, with
    /// room for what the prediction may be short of; the buffers, which are known, on a GPU with its own memory.
    pub fn budget(&self) -> u64 {
        let host = self.peak_host_bytes.filter(|_| self.kind.shares_host());
        self.peak_device_bytes.max(host.map_or(0, |bytes| bytes + (bytes / 20).max(MARGIN)))
    }

    /// Bytes of the host's memory that the run allocates, besides what was there before.
    pub fn allocated_bytes(&self) -> u64 {
        self.host.buffers + self.host.work
    }
}

/// What a run has and does besides its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// There is held-out data.
    pub evaluates: bool,
    /// It writes checkpoints.
    pub checkpoints: bool,
    /// It goes on from one.
    pub resumes: bool,
    /// It opens a GPU again that was lost.
    pub reopens: bool,
    /// Examples to train on; 0 if that is not known.
    pub examples: usize,
    /// Bytes of all data in memory, and of the adapter that the run starts from.
    pub data_bytes: u64,
}

impl Scope {
    /// A run that only trains on `data`, from `start` on, and has `held_out` in memory.
    pub fn of(data: &Dataset, held_out: Option<&Dataset>, start: Option<&AdapterFile>) -> Self {
        let held_out = held_out.map_or(0, Dataset::heap_bytes);
        let data_bytes = data.heap_bytes() + held_out + start.map_or(0, heap_bytes);
        Self { examples: data.examples.len(), data_bytes, ..Self::default() }
    }
}

/// The memory of training `adapter`, or a new one, on `base` with `options` on the device that `info` describes. Nothing is
/// allocated on the device and no weight matrix is read: the trainer itself goes through a step on a back end that only counts.
///
/// # Errors
/// Options that make no sense, or an adapter that does not fit the base.
pub async fn plan(
    base: &Base,
    info: &DeviceInfo,
    adapter: Option<&AdapterFile>,
    options: &TrainOptions,
    scope: Scope,
) -> Result<MemoryPlan> {
    let gauge = Gauge::start();
    let mut engine = Engine::new(base, Box::new(Rehearsal::new(info.clone())))?;
    let mut trainer = Trainer::new(&mut engine, adapter.cloned(), options.clone())?;
    let memory = rehearse(&mut engine, &mut trainer, adapter, options, scope).await?;
    let buffers = memory.on_host(info.kind);
    let host = HostMemory {
        program: PROGRAM_BYTES + THREAD_BYTES * available_parallelism().map_or(1, usize::from) as u64,
        driver: driver_bytes(info.kind),
        file: base.file().file_bytes(),
        model: base.heap_bytes(),
        data: scope.data_bytes + batch_bytes(options, scope.examples),
        buffers,
        work: gauge.peak().saturating_sub(buffers),
    };
    Ok(MemoryPlan {
        peak_device_bytes: engine.memory().peak_bytes,
        peak_host_bytes: heap::is_counted().then(|| host.bytes().max(host.program + heap::most())),
        pools: memory.current,
        host,
        micro_batch: options.batch,
        accumulate: options.accumulate,
        checkpointing: options.checkpointing.unwrap_or_default(),
        loss_chunk: trainer.loss_chunk(),
        kind: info.kind,
    })
}

/// All that a run does to memory, on as few data as there can be. Returns what is on the device while it trains.
async fn rehearse(
    engine: &mut Engine,
    trainer: &mut Trainer,
    start: Option<&AdapterFile>,
    options: &TrainOptions,
    scope: Scope,
) -> Result<Memory> {
    let batch = [Batch::full(options.batch, options.context)?];
    if scope.evaluates {
        trainer.evaluate(engine, &batch).await?;
    }
    trainer.step(engine, &batch, options.lr).await?;
    let memory = engine.memory().clone();
    let is_cpu = engine.backend.info().kind == Kind::Cpu;
    // What a run goes on from when its device is lost.
    let copied = if scope.resumes || (scope.reopens && !is_cpu) { Some(trainer.buffers(engine).await?) } else { None };
    // The best adapter so far, and a better one; without evaluations in between there is one, behind the last checkpoint.
    let mut best = None;
    if scope.evaluates && options.eval_every > 0 {
        best = Some(trainer.values(engine).await?);
        best = best.and(Some(trainer.values(engine).await?));
    }
    if scope.checkpoints {
        // Nobody reads it: the compiler must not leave the copy out.
        black_box((best.clone(), trainer.buffers(engine).await?));
    }
    if scope.evaluates && best.is_none() {
        best = Some(trainer.values(engine).await?);
    }
    // Without held-out data the last step's rows tell whether the run was of any use.
    let judged = !scope.evaluates && !options.force;
    if judged {
        trainer.evaluate(engine, &batch).await?;
    }
    let adapter = trainer.adapter(engine).await?;
    if judged {
        trainer.forget(engine, start)?;
    }
    black_box((adapter, best, copied));
    Ok(memory)
}

/// Pages of the program and of system libraries that a run touches, and small things.
const PROGRAM_BYTES: u64 = 12_500_000;

/// What a thread computes with: packed tiles, its stack.
const THREAD_BYTES: u64 = 1_000_000;

/// What a GPU's driver and its compiler take in the process.
const DRIVER_BYTES: u64 = 107_000_000;

/// What drivers take that were looked at and not used.
const LOADED_BYTES: u64 = 52_000_000;

fn driver_bytes(kind: Kind) -> u64 {
    match kind {
        Kind::Cpu if drivers_are_loaded() => LOADED_BYTES,
        Kind::Cpu => 0,
        _ => DRIVER_BYTES,
    }
}

/// The micro-batches of a step: five lists of words.
fn batch_bytes(options: &TrainOptions, examples: usize) -> u64 {
    let most = options.batch.saturating_mul(options.accumulate);
    let rows = if examples == 0 { most } else { most.min(examples.next_multiple_of(options.batch)) };
    5 * bytes_of::<u32>(rows.saturating_mul(options.context))
}

/// What the values of an adapter keep on the heap.
fn heap_bytes(adapter: &AdapterFile) -> u64 {
    adapter.parameters.iter().map(|parameter| bytes_of::<f32>(parameter.values.len())).sum()
}
