//! How much memory a training run takes, known before it takes any.

use std::collections::BTreeMap;

use super::{TrainOptions, Trainer};
use crate::adapter::AdapterFile;
use crate::backend::{DeviceInfo, Kind, Rehearsal};
use crate::base::Base;
use crate::data::Batch;
use crate::error::Result;
use crate::host;
use crate::plan::{Checkpointing, Pool};

/// The memory of a training run, and what was chosen for it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPlan {
    /// Most bytes of all buffers on the device at once. Weights that the CPU uses where the file is mapped count whole.
    pub peak_device_bytes: u64,
    /// Largest resident set of the process, if it has nothing else to do: on the CPU with all buffers and the mapped
    /// weights. `None` where the system does not tell what the process has now. Within a few percent on the CPU; with a GPU a
    /// rough number, because drivers differ.
    pub peak_host_bytes: Option<u64>,
    /// Bytes on the device while it trains.
    pub pools: BTreeMap<Pool, u64>,
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

impl MemoryPlan {
    /// What a budget bounds: the buffers on a GPU; on the CPU the process, which holds them.
    pub fn bytes(&self) -> u64 {
        match self.kind {
            Kind::Cpu => self.peak_device_bytes.max(self.peak_host_bytes.unwrap_or(0)),
            _ => self.peak_device_bytes,
        }
    }

    /// Bytes that are allocated besides the weights, which the CPU has mapped.
    pub fn allocated_bytes(&self) -> u64 {
        let weights = self.pools.get(&Pool::Weights).copied().unwrap_or(0);
        self.pools.values().sum::<u64>() - weights
    }
}

/// What a run does besides its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// There is held-out data.
    pub evaluates: bool,
    /// It writes checkpoints.
    pub checkpoints: bool,
}

/// The memory of training `adapter`, or a new one, on `base` with `options` on the device that `info` describes. Nothing is allocated on the device and no weight matrix is read: the trainer itself goes
/// through a step on a back end that only counts.
///
/// # Errors
/// Options that make no sense, or an adapter that does not fit the base.
pub async fn plan(
    base: &Base,
    info: &DeviceInfo,
    adapter: Option<AdapterFile>,
    options: &TrainOptions,
    scope: Scope,
) -> Result<MemoryPlan> {
    measure(base, info, adapter, options, scope, host::anonymous_bytes()).await
}

/// As [`plan`] for a process that had `resident` bytes before anything was done for the training.
pub(super) async fn measure(
    base: &Base,
    info: &DeviceInfo,
    adapter: Option<AdapterFile>,
    options: &TrainOptions,
    scope: Scope,
    resident: Option<u64>,
) -> Result<MemoryPlan> {
    let mut trainer = Trainer::new(base, Box::new(Rehearsal::new(info.clone())), adapter, options.clone())?;
    let batch = [Batch::full(options.batch, options.context)?];
    if scope.evaluates {
        trainer.evaluate(&batch).await?;
    }
    trainer.step(&batch, options.lr).await?;
    let pools = trainer.engine().backend.memory().current.clone();
    if scope.checkpoints {
        trainer.buffers().await?;
    }
    trainer.adapter().await?;
    let peak_device_bytes = trainer.engine().backend.memory().peak_bytes;
    Ok(MemoryPlan {
        peak_device_bytes,
        peak_host_bytes: resident.map(|resident| resident + host_bytes(base, info, &trainer, scope)),
        pools,
        micro_batch: options.batch,
        accumulate: options.accumulate,
        checkpointing: options.checkpointing.unwrap_or_default(),
        loss_chunk: trainer.loss_chunk(),
        kind: info.kind,
    })
}

/// Pages of the program itself that a run touches, and what its threads need: as measured by
/// `benches/peers/train_memory.py`.
const PROGRAM_BYTES: u64 = 11_400_000;

/// What a GPU's driver and its compiler take in the process, as measured with llvmpipe. Drivers differ.
const DRIVER_BYTES: u64 = 100_000_000;

/// What a run adds to the memory of the process at most: the program's code, a driver, the base, all of which is read, what is on
/// the device if that is the host's memory, and the adapter on its way to its file or to a checkpoint.
fn host_bytes(base: &Base, info: &DeviceInfo, trainer: &Trainer, scope: Scope) -> u64 {
    let memory = trainer.engine().backend.memory();
    let pool = |pool| memory.current.get(&pool).copied().unwrap_or(0);
    let buffers = match info.kind {
        // Its weights are where the file is mapped.
        Kind::Cpu => memory.current_bytes() - pool(Pool::Weights),
        Kind::Software | Kind::IntegratedGpu => memory.current_bytes(),
        _ => pool(Pool::Staging),
    };
    // The words as they are read and the tensors made of them, or everything that a checkpoint holds.
    let adapter = 2 * trainer.parameters() as u64 * 4;
    let saved = if scope.checkpoints { pool(Pool::Adapter) + pool(Pool::Optimizer) } else { 0 };
    let driver = if info.kind == Kind::Cpu { 0 } else { DRIVER_BYTES };
    // The best adapter so far, in a checkpoint once more.
    let copies = if scope.evaluates { 1 + u64::from(scope.checkpoints) } else { 0 };
    let best = copies * trainer.words() * 4;
    PROGRAM_BYTES + driver + base.file().file_bytes() + buffers + best + adapter.max(saved)
}
