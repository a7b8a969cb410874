//! Options that fit into a budget of memory.

use std::cmp::Ordering;

use super::TrainOptions;
use super::plan::{MemoryPlan, Scope, measure};
use crate::adapter::{AdapterFile, LoraOptions};
use crate::backend::{DeviceInfo, Kind, Rehearsal};
use crate::base::Base;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::evaluate::{FEWEST_ROWS, loss_chunk};
use crate::host;
use crate::plan::Checkpointing;

/// See [`careful`].
const RESIDENT_STEP: u64 = 4 << 20;

/// What is open in the options is chosen: the fastest choice that fits the budget; without one, checkpointing only where the
/// memory that is free would not do. Returns the options with every choice made, and their memory. Batch times accumulate, and with
/// it the rows of every step, stay as they are.
///
/// # Errors
/// [`Error::OverBudget`] with the smallest budget that would do, and errors of [`super::plan`].
pub async fn fit(
    base: &Base,
    info: &DeviceInfo,
    adapter: Option<&AdapterFile>,
    options: &TrainOptions,
    scope: Scope,
) -> Result<(TrainOptions, MemoryPlan)> {
    options.check()?;
    let resident = host::anonymous_bytes();
    // Only the shapes matter, and they are the same for all candidates.
    let adapter = match adapter {
        Some(adapter) => adapter.clone(),
        None => start(base, info, &options.lora)?,
    };
    let Some(budget) = options.budget else {
        let begun = (options.batch, options.loss_chunk);
        return keep(base, info, Some(&adapter), options, begun, scope, resident).await;
    };
    let candidates = candidates(base.config().vocabulary, info.kind, options);
    let mut needed = u64::MAX;
    for candidate in candidates {
        let memory = measure(base, info, Some(adapter.clone()), &candidate, scope, resident).await?;
        let bytes = careful(&memory, resident);
        if bytes <= budget {
            return Ok((candidate, memory));
        }
        needed = needed.min(bytes);
    }
    // On the CPU it is an estimate, and told as one.
    let needed = if info.kind == Kind::Cpu { needed.next_multiple_of(1 << 20) } else { needed };
    Err(Error::OverBudget { budget, needed })
}

/// The choices of a run in micro-batches of `batch` with chunks of `loss_chunk`, which stay: others have other sums. Only
/// checkpointing, which has no say in them, is chosen, and nothing is refused.
///
/// # Errors
/// As [`super::plan`].
pub(super) async fn keep(
    base: &Base,
    info: &DeviceInfo,
    adapter: Option<&AdapterFile>,
    options: &TrainOptions,
    (batch, loss_chunk): (usize, Option<usize>),
    scope: Scope,
    resident: Option<u64>,
) -> Result<(TrainOptions, MemoryPlan)> {
    let fits = |memory: &MemoryPlan| match options.budget {
        Some(budget) => careful(memory, resident) <= budget,
        None => has_room(info.kind, memory.allocated_bytes()),
    };
    let way = options.checkpointing.unwrap_or_default();
    let asked = chosen(options, batch, way, loss_chunk);
    let memory = measure(base, info, adapter.cloned(), &asked, scope, resident).await?;
    if options.checkpointing.is_some() || fits(&memory) {
        return Ok((asked, memory));
    }
    let less = chosen(options, batch, Checkpointing::Layers, loss_chunk);
    let memory = measure(base, info, adapter.cloned(), &less, scope, resident).await?;
    Ok((less, memory))
}

/// What a budget has to hold. What the process has already, `resident`, is never quite the same twice: it counts in whole steps,
/// so that equal commands make equal choices.
fn careful(memory: &MemoryPlan, resident: Option<u64>) -> u64 {
    let resident = resident.filter(|_| memory.kind == Kind::Cpu).unwrap_or(0);
    memory.bytes() + (resident.next_multiple_of(RESIDENT_STEP) - resident)
}

/// Whether the host can hold `bytes`, if they would be its memory and it tells.
fn has_room(kind: Kind, bytes: u64) -> bool {
    match kind {
        Kind::Cpu | Kind::Software | Kind::IntegratedGpu => host::available_bytes().is_none_or(|free| bytes <= free),
        _ => true,
    }
}

/// A new adapter as the trainer would start it.
fn start(base: &Base, info: &DeviceInfo, lora: &LoraOptions) -> Result<AdapterFile> {
    let engine = Engine::new(base, Box::new(Rehearsal::new(info.clone())))?;
    lora.start(&engine.config, &engine.weights)
}

/// Every way to run the same steps that the options leave open, the fastest first.
fn candidates(vocabulary: usize, kind: Kind, options: &TrainOptions) -> Vec<TrainOptions> {
    let batches = (1..=options.batch).filter(|batch| options.batch.is_multiple_of(*batch));
    let ways = [Checkpointing::None, Checkpointing::Layers];
    let ways = ways.into_iter().filter(|way| options.checkpointing.is_none_or(|asked| asked == *way));
    let mut all = Vec::new();
    for (batch, way) in batches.flat_map(|batch| ways.clone().map(move |way| (batch, way))) {
        let tokens = batch * options.context;
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

/// Relative time of a step. What every micro-batch costs anew is decoding (a CPU) or filling the device (a GPU), given
/// in tokens that take as long; a chunk of the loss decodes the head anew.
fn cost(kind: Kind, tokens: usize, way: Checkpointing, chunk: usize) -> f64 {
    let start = if kind == Kind::Cpu { 8.0 } else { 128.0 };
    let again = if way == Checkpointing::Layers { 4.0 / 3.0 } else { 1.0 };
    again * (1.0 + start / tokens as f64) * (1.0 + 1.0 / chunk as f64)
}

fn chosen(options: &TrainOptions, batch: usize, way: Checkpointing, chunk: Option<usize>) -> TrainOptions {
    let accumulate = options.batch * options.accumulate / batch;
    let loss_chunk = chunk.or(options.loss_chunk);
    TrainOptions { batch, accumulate, checkpointing: Some(way), loss_chunk, ..options.clone() }
}
