//! Options that fit into a budget of memory.

use std::cmp::Ordering;

use super::prediction::{MemoryPlan, Scope, plan};
use crate::adapter::{AdapterFile, NewAdapter};
use crate::backend::{DeviceInfo, Kind};
use crate::base::Base;
use crate::error::{Error, Result};
use crate::host;
use crate::loss::{FEWEST_ROWS, loss_chunk};
use crate::model::Weights;
use crate::plan::{Checkpointing, Storage};
use crate::train::TrainOptions;

/// What is open in the options is chosen: the fastest choice that fits the budget; without one, checkpointing only
/// where the memory that is free would not do. Returns the options with every choice made, and their memory. Batch
/// times accumulate, and with it the rows of every step, stay as they are. What a budget chooses is a function of
/// file, data, options and machine: the same command chooses the same again.
///
/// # Errors
/// [`Error::OverBudget`] with the smallest budget that would do, [`Error::OutOfMemory`] if that is within the budget
/// but more than the process may have, and errors of [`super::plan`].
pub async fn fit(
    base: &Base,
    info: &DeviceInfo,
    adapter: Option<&AdapterFile>,
    options: &TrainOptions,
    scope: Scope,
) -> Result<(TrainOptions, MemoryPlan)> {
    options.check()?;
    // Only the shapes matter, and they are the same for all candidates.
    let new = adapter.is_none().then(|| start(base, info, &options.adapter)).transpose()?;
    let adapter = adapter.or(new.as_ref());
    let Some(budget) = options.budget else {
        return keep(base, info, adapter, options, scope).await;
    };
    // More than the machine, or the limits of the process, can give is no budget.
    let limit = host::limit_bytes().filter(|_| info.kind.shares_host()).unwrap_or(u64::MAX);
    let mut needed = u64::MAX;
    for candidate in candidates(base.config().vocabulary, info.kind, options) {
        let memory = plan(base, info, adapter, &candidate, scope).await?;
        if memory.budget() <= budget.min(limit) {
            return Ok((candidate, memory));
        }
        needed = needed.min(memory.budget());
    }
    if needed > budget {
        return Err(Error::OverBudget { budget, needed });
    }
    let what = format!("the training (the process may have {limit} bytes)");
    Err(Error::OutOfMemory { device: "host".into(), what, bytes: needed })
}

/// Refuses a run that the memory which is free now cannot hold, before anything of it is allocated.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(in crate::train) fn check_room(info: &DeviceInfo, memory: &MemoryPlan) -> Result<()> {
    if info.kind.shares_host() { host::check("the training", memory.allocated_bytes()) } else { Ok(()) }
}

/// The choices of a run whose micro-batches and chunks stay as the options have them: others have other sums. Only
/// checkpointing, which has no say in them, is chosen, and nothing is refused.
///
/// # Errors
/// As [`super::plan`].
pub(in crate::train) async fn keep(
    base: &Base,
    info: &DeviceInfo,
    adapter: Option<&AdapterFile>,
    options: &TrainOptions,
    scope: Scope,
) -> Result<(TrainOptions, MemoryPlan)> {
    let fits = |memory: &MemoryPlan| match options.budget {
        Some(budget) => memory.budget() <= budget,
        None => has_room(info, memory),
    };
    let way = options.checkpointing.unwrap_or_default();
    let asked = chosen(options, options.batch, way, None);
    let memory = plan(base, info, adapter, &asked, scope).await?;
    if options.checkpointing.is_some() || fits(&memory) {
        return Ok((asked, memory));
    }
    let less = chosen(options, options.batch, Checkpointing::Layers, None);
    let memory = plan(base, info, adapter, &less, scope).await?;
    Ok((less, memory))
}

/// Whether the memory that is free now, or a GPU's own, can hold the run, as far as that is known.
fn has_room(info: &DeviceInfo, memory: &MemoryPlan) -> bool {
    if info.kind.shares_host() {
        return host::available_bytes().is_none_or(|free| memory.allocated_bytes() <= free);
    }
    info.memory_bytes.is_none_or(|bytes| memory.peak_device_bytes <= bytes / 10 * 9)
}

/// A new adapter as the trainer would start it.
fn start(base: &Base, info: &DeviceInfo, new: &NewAdapter) -> Result<AdapterFile> {
    let weights = Weights::declare(base.file(), base.config(), info.limits, &mut Storage::default())?;
    let targets: Vec<_> = weights.targets().collect();
    new.start(base.config().architecture, &targets)
}

/// Every way to run the same steps that the options leave open, the fastest first.
fn candidates(vocabulary: usize, kind: Kind, options: &TrainOptions) -> Vec<TrainOptions> {
    let batches = (1..=options.batch).filter(|batch| options.batch.is_multiple_of(*batch));
    let ways = [Checkpointing::None, Checkpointing::Layers];
    let ways = ways.into_iter().filter(|way| options.checkpointing.is_none_or(|asked| asked == *way));
    let mut all = Vec::new();
    for (batch, way) in batches.flat_map(|batch| ways.clone().map(move |way| (batch, way))) {
        let tokens = options.in_batches_of(batch).rows() * options.context;
        let most = loss_chunk(vocabulary, tokens);
        let smaller = std::iter::successors(Some(most), |chunk| Some(chunk / 2).filter(|half| *half >= FEWEST_ROWS));
        let chunks: Vec<usize> = options.loss_chunk.map_or_else(|| smaller.collect(), |chunk| vec![chunk]);
        for chunk in chunks {
            all.push((cost(kind, tokens, way, chunk), chosen(options, batch, way, Some(chunk))));
        }
    }
    all.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    all.into_iter().map(|(_, options)| options).collect()
}

/// Relative time of a step. What every micro-batch costs again is decoding (a CPU) or filling the device (a GPU), given
/// in tokens that take as long; a chunk of the loss decodes the head again.
fn cost(kind: Kind, tokens: usize, way: Checkpointing, chunk: usize) -> f64 {
    let start = if kind == Kind::Cpu { 8.0 } else { 128.0 };
    let again = if way == Checkpointing::Layers { 4.0 / 3.0 } else { 1.0 };
    again * (1.0 + start / tokens as f64) * (1.0 + 1.0 / chunk as f64)
}

fn chosen(options: &TrainOptions, batch: usize, way: Checkpointing, chunk: Option<usize>) -> TrainOptions {
    let loss_chunk = chunk.or(options.loss_chunk);
    TrainOptions { checkpointing: Some(way), loss_chunk, ..options.in_batches_of(batch) }
}
