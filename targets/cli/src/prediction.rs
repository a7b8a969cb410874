//! A predicted memory, as it is shown: `loam plan`, the start of a training and its log.

use loam::plan::{Checkpointing, Pool};
use loam::train::MemoryPlan;
use serde_json::{Map, Value, json};

use crate::output::bytes;

/// The plan in a line, for people.
pub fn line(memory: &MemoryPlan) -> String {
    let MemoryPlan { micro_batch, accumulate, .. } = memory;
    let checkpointing = if checkpoints(memory) { ", checkpointing" } else { "" };
    let device = bytes(memory.peak_device_bytes);
    let kept =
        memory.checkpoint_bytes.map_or(String::new(), |size| format!(", 2 checkpoints of up to {}", bytes(size)));
    format!(
        "planned: {device} on the device, {} of the process ({micro_batch} rows x {accumulate}{checkpointing}){kept}",
        bytes(memory.peak_host_bytes)
    )
}

/// The plan as `--json` shows it.
pub fn object(memory: &MemoryPlan) -> Value {
    let pools: Map<String, Value> = pools(memory).map(|(pool, size)| (pool.name().to_owned(), json!(size))).collect();
    let host_pools: Map<String, Value> =
        host_pools(memory).map(|(pool, size)| (pool.to_owned(), json!(size))).collect();
    json!({
        "peak_device_bytes": memory.peak_device_bytes, "peak_host_bytes": memory.peak_host_bytes, "pools": pools,
        "host_pools": host_pools, "micro_batch": memory.micro_batch, "accumulate": memory.accumulate, "checkpointing": checkpoints(memory),
        "loss_chunk": memory.loss_chunk, "checkpoint_bytes": memory.checkpoint_bytes,
    })
}

/// Whether layers are computed again in the backward pass.
pub fn checkpoints(memory: &MemoryPlan) -> bool {
    memory.checkpointing == Checkpointing::Layers
}

/// Bytes of the process by what they are for.
pub fn host_pools(memory: &MemoryPlan) -> impl Iterator<Item = (&'static str, u64)> {
    memory.host.pools().into_iter().filter(|(_, size)| *size > 0)
}

/// Bytes on the device by what they are for.
pub fn pools(memory: &MemoryPlan) -> impl Iterator<Item = (Pool, u64)> {
    Pool::ALL.into_iter().filter_map(|pool| memory.pools.get(&pool).filter(|size| **size > 0).map(|size| (pool, *size)))
}
