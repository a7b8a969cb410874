//! A plan: the flat list of kernel calls that one run of a model is.
//!
//! Recording turns a forward function into nodes, the reverse walk adds the gradient nodes (and with checkpointing the
//! nodes of each layer once more), nodes whose results are not read are left out, memory planning assigns every
//! temporary to a slot by liveness and [`Plan::print`] shows the result. A plan is a value: printable, comparable,
//! complete. It names no device; a [`crate::backend::Backend`] compiles it. One slot is one buffer, because wgpu tracks
//! usage per whole buffer: no node may read and write the same buffer through two bindings (checked when memory is
//! planned).

mod memory;
mod print;
mod prune;
mod record;
mod reverse;
pub mod storage;
mod weight;

pub use record::{Checkpointing, GradFn, Recorder, Tensor};
pub use reverse::Gradients;
pub use storage::{Content, Entry, Pool, Storage, StorageId};
pub use weight::{Weight, WeightPart};

use loam_shaders::{Call, Step};

/// Where a view's words live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    /// A temporary of this plan: index into [`Plan::slots`] (while recording: into the recorder's temporaries).
    Slot(u32),
    /// A buffer that outlives the plan: a weight, the KV cache, adapter parameters, inputs.
    Stored(StorageId),
}

/// A range of 32-bit words in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The buffer.
    pub location: Location,
    /// First word. A multiple of 64 (256 bytes), so that every device can bind it.
    pub offset: u64,
    /// Length in words.
    pub words: u64,
}

/// One kernel call with its buffers, in the order of the kernel's bindings.
#[derive(Debug, Clone)]
pub struct Node {
    /// Kernel, parameters and grid.
    pub call: Call,
    /// One view per storage binding.
    pub operands: Vec<View>,
    /// What the node computes, for print-outs: `blk.3.attn_q`.
    pub label: String,
    /// When it runs.
    pub when: When,
}

/// When a node runs. Back ends ask before each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct When {
    /// Only with more trained rows: loss chunks after the last trained row cost nothing.
    pub above: Option<u32>,
    /// Only in this phase; `None`: in every run.
    pub phase: Option<Phase>,
}

impl When {
    /// Whether a node takes part in a run with `step`.
    pub fn holds(self, step: &Step) -> bool {
        let phase = |phase| step.phase == 0 || step.phase == phase as u32;
        self.above.is_none_or(|above| step.trained > above) && self.phase.is_none_or(phase)
    }
}

/// The two phases of a plan whose end depends on what the host makes of its beginning. They run one after the other,
/// and nothing else runs between them: what the first leaves in the slots is there for the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Forward, up to log-probabilities.
    Measure = 1,
    /// From the weights that the host made of them to the gradients.
    Learn = 2,
}

/// A recorded, memory-planned list of nodes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `decode`, `prefill 64`, `train 2x128`, `update`.
    pub name: String,
    /// Nodes in execution order.
    pub nodes: Vec<Node>,
    /// Length of each slot in words.
    pub slots: Vec<u64>,
}

impl Plan {
    /// Bytes of all slots: the device memory that compiling this plan takes, besides stored buffers.
    pub fn slot_bytes(&self) -> u64 {
        self.slots.iter().map(|words| words * 4).sum()
    }

    /// The first node of the second phase, in a plan with phases.
    pub fn turn(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.when.phase == Some(Phase::Learn))
    }
}
