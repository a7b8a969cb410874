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
    /// weights. `None` where the system does not tell what the process has now. See [`host_bytes`].
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
        peak_host_bytes: host_bytes(base, info, &trainer),
        pools,
        micro_batch: options.batch,
        accumulate: options.accumulate,
        checkpointing: options.checkpointing.unwrap_or_default(),
        loss_chunk: trainer.loss_chunk(),
        kind: info.kind,
    })
}

/// Pages of the program itself that a run touches.
const CODE_BYTES: u64 = 16 << 20;

/// What the process will have in memory at most: what it has now, its code, the base (all of it is read), what is on the
/// device if that is the host's memory, and the adapter on its way to the file.
fn host_bytes(base: &Base, info: &DeviceInfo, trainer: &Trainer) -> Option<u64> {
    let memory = trainer.engine().backend.memory();
    let on_host = matches!(info.kind, Kind::Cpu | Kind::Software | Kind::IntegratedGpu);
    let weights = |gpu: bool| if gpu { 0 } else { memory.current.get(&Pool::Weights).copied().unwrap_or(0) };
    let buffers = if on_host { memory.current_bytes() - weights(info.kind != Kind::Cpu) } else { 0 };
    let adapter = trainer.parameters() as u64 * 4;
    let file = base.file().file_bytes();
    Some(host::anonymous_bytes()? + CODE_BYTES + file + buffers + 2 * adapter)
}
