//! How much memory a training run takes, known before it takes any.

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use super::rehearsal::{Rehearsed, rehearse};
use crate::adapter::AdapterFile;
use crate::backend::select::drivers_are_loaded;
use crate::backend::{DeviceInfo, Kind};
use crate::base::Base;
use crate::data::{Dataset, Example};
use crate::error::Result;
use crate::plan::{Checkpointing, Pool};
use crate::train::TrainOptions;

/// The memory of a training run, and what was chosen for it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPlan {
    /// Most bytes of all buffers on the device at once. Weights that the CPU uses where the file is mapped count whole.
    pub peak_device_bytes: u64,
    /// Largest resident set of the process, if it has nothing else to do: the sum of `host`, within a tenth.
    pub peak_host_bytes: u64,
    /// Bytes on the device while it trains.
    pub pools: BTreeMap<Pool, u64>,
    /// Bytes of the process at its peak.
    pub host: HostMemory,
    /// Bytes of a checkpoint on the disk, if the run writes them. Two are kept, and a third is written beside them.
    pub checkpoint_bytes: Option<u64>,
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

/// What the process has in memory at its peak, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostMemory {
    /// What is not counted: code, stacks, plans, a GPU's driver. A constant of the back end, as measured.
    pub program: u64,
    /// The base's file, all of which is read where it is mapped.
    pub file: u64,
    /// What is made of the file's metadata: the tokenizer for the greater part. In proportion to it, as measured.
    pub model: u64,
    /// Examples and batches, and the adapter that the run starts from.
    pub data: u64,
    /// What of the device's buffers is the host's memory, without the mapped file.
    pub buffers: u64,
    /// Copies of adapter and optimizer: for checkpoints, recovery, the best adapter, the file in the end.
    pub copies: u64,
}

impl HostMemory {
    /// Name and bytes of each.
    pub fn pools(&self) -> [(&'static str, u64); 6] {
        let Self { program, file, model, data, buffers, copies } = *self;
        [
            ("program", program),
            ("file", file),
            ("model", model),
            ("data", data),
            ("buffers", buffers),
            ("copies", copies),
        ]
    }

    /// All together.
    pub fn bytes(&self) -> u64 {
        self.pools().iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// Most bytes that a prediction of a small process was short of; of large ones it is a tenth.
const MARGIN: u64 = 4 << 20;

impl MemoryPlan {
    /// The smallest budget that the run keeps to. A budget bounds the process, where what is on the device is in it,
    /// with room for what the prediction may be short of; the buffers, which are known, on a GPU with its own memory.
    pub fn budget(&self) -> u64 {
        let host = Some(self.peak_host_bytes).filter(|_| self.kind.shares_host());
        self.peak_device_bytes.max(host.map_or(0, |bytes| bytes + (bytes / 10).max(MARGIN)))
    }

    /// Bytes of the host's memory that the run allocates, besides what was there before.
    pub fn allocated_bytes(&self) -> u64 {
        self.host.buffers + self.host.copies
    }
}

/// What a run has and does besides its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// There is held-out data.
    pub evaluates: bool,
    /// It writes checkpoints.
    pub checkpoints: bool,
    /// It continues from one.
    pub resumes: bool,
    /// It opens a GPU again that was lost.
    pub reopens: bool,
    /// Examples to train on; `None` if that is not known.
    pub examples: Option<usize>,
    /// Bytes of all data in memory, and of the adapter that the run starts from.
    pub data_bytes: u64,
}

impl Scope {
    /// A run that only trains on `data`, from `start` on, and has `held_out` in memory.
    pub fn new(data: &Dataset, held_out: Option<&Dataset>, start: Option<&AdapterFile>) -> Self {
        let examples = data.examples.iter().chain(held_out.iter().flat_map(|data| &data.examples));
        // A token and whether it is trained; its example in a list and in the order of rows.
        let examples = examples.map(|example| size_of::<Example>() as u64 + 64 + 5 * example.tokens.len() as u64);
        let start = start.iter().flat_map(|start| &start.parameters).map(|parameter| 4 * parameter.values.len() as u64);
        let data_bytes = examples.sum::<u64>() + start.sum::<u64>();
        Self { examples: Some(data.examples.len()), data_bytes, ..Self::default() }
    }
}

/// The memory of training `adapter`, or a new one, on `base` with `options` on the device that `info` describes.
/// Nothing is allocated on the device and no weight matrix is read: the loop itself goes through two steps on a back
/// end that only counts.
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
    let rehearsed = rehearse(base, info, adapter, options, scope).await?;
    let host = HostMemory {
        program: program_bytes(info.kind),
        file: base.file().file_bytes(),
        model: MODEL_FACTOR * base.gguf().data_offset(),
        data: scope.data_bytes + batch_bytes(options, scope.examples),
        buffers: rehearsed.buffers_on_host(info.kind),
        copies: rehearsed.peak_copied_bytes,
    };
    Ok(MemoryPlan {
        peak_device_bytes: rehearsed.peak_device_bytes,
        peak_host_bytes: host.bytes(),
        pools: rehearsed.training.current,
        checkpoint_bytes: scope.checkpoints.then_some(rehearsed.checkpoint_bytes),
        host,
        micro_batch: options.batch,
        accumulate: options.accumulate,
        checkpointing: options.checkpointing.unwrap_or_default(),
        loss_chunk: rehearsed.loss_chunk,
        kind: info.kind,
    })
}

impl Rehearsed {
    /// What of the device's buffers is the host's memory. The CPU's weights are not: they are where the file is mapped.
    fn buffers_on_host(&self, kind: Kind) -> u64 {
        let weights = self.training.current.get(&Pool::Weights).copied().unwrap_or(0);
        match kind {
            Kind::Cpu => self.peak_device_bytes - weights,
            kind if kind.shares_host() => self.peak_device_bytes,
            _ => 0,
        }
    }
}

/// Touched pages of the program and of system libraries, and plans.
const PROGRAM_BYTES: u64 = 14_500_000;

/// What a thread computes with: packed tiles, its stack.
const THREAD_BYTES: u64 = 1_000_000;

/// What a GPU's driver and its compiler take in the process.
const DRIVER_BYTES: u64 = 107_000_000;

/// What drivers take that were looked at and not used.
const LOADED_BYTES: u64 = 52_000_000;

/// Bytes of metadata and tokenizer in memory for a byte of metadata in the file.
const MODEL_FACTOR: u64 = 6;

/// The constant of a back end.
fn program_bytes(kind: Kind) -> u64 {
    let threads = available_parallelism().map_or(1, usize::from) as u64;
    let drivers = match kind {
        Kind::Cpu if drivers_are_loaded() => LOADED_BYTES,
        Kind::Cpu => 0,
        _ => DRIVER_BYTES,
    };
    PROGRAM_BYTES + threads * THREAD_BYTES + drivers
}

/// The micro-batches of a step: five lists of words.
fn batch_bytes(options: &TrainOptions, examples: Option<usize>) -> u64 {
    let most = options.rows().saturating_mul(options.accumulate);
    let rows = examples.map_or(most, |examples| most.min(examples.next_multiple_of(options.rows())));
    5 * 4 * rows.saturating_mul(options.context) as u64
}
