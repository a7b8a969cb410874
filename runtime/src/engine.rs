//! A model on a device: stored buffers declared and provided, ready for plans.

use crate::adapter::{Arena, Attach, Sites};
use crate::backend::slots::SlotPool;
use crate::backend::{Backend, Limits, Precision};
use crate::base::Base;
use crate::error::{Error, Result};
use crate::host;
use crate::model::{Inputs, ModelConfig, RopeConfig, Weights};
use crate::ops::rope::Rope;
use crate::plan::{Checkpointing, Content, Entry, Plan, Pool, Recorder, Storage, StorageId, Tensor, View};

/// A base's weights on a device, and everything else that is stored there.
pub struct Engine {
    /// What runs the plans.
    pub backend: Box<dyn Backend>,
    /// Declarations of all stored buffers.
    pub storage: Storage,
    /// Hyper-parameters.
    pub config: ModelConfig,
    /// Where the weights are.
    pub weights: Weights,
    /// Entries of `storage` that are on the device already.
    provided: usize,
}

impl Engine {
    /// Declares the weights of `base`. Nothing is allocated before [`Self::provide`].
    ///
    /// # Errors
    /// A tensor that does not fit the metadata or the device's limits.
    pub fn new(base: &Base, backend: Box<dyn Backend>) -> Result<Self> {
        let mut storage = Storage::default();
        let config = base.config().clone();
        let limits: Limits = backend.info().limits;
        let weights = Weights::declare(base.file(), &config, limits, &mut storage)?;
        Ok(Self { backend, storage, config, weights, provided: 0 })
    }

    /// A recorder for plans of the model: what its products can do besides depends on the precision.
    pub fn recorder<'a>(&self, checkpointing: Checkpointing) -> Recorder<'a> {
        Recorder::with(checkpointing).updates_apart(self.backend.info().precision != Precision::F32)
    }

    /// Allocates everything declared so far on the device, if the host can hold it and the slots of `plans`.
    /// Returns the bytes of both.
    ///
    /// # Errors
    /// Out of memory.
    pub fn provide(&mut self, plans: &[&Plan]) -> Result<u64> {
        let new = self.storage.entries().skip(self.provided);
        // On the CPU weights stay in the mapped file; on a GPU they may have memory of their own.
        let stored = new.filter(|(_, entry)| entry.pool != Pool::Weights).map(|(_, entry)| entry.words * 4);
        let mut pool = SlotPool::default();
        let slots = plans.iter().map(|plan| pool.take(&plan.slots).new_bytes());
        let bytes = stored.chain(slots).fold(0, u64::saturating_add);
        if self.backend.allocates() && self.backend.info().kind.shares_host() {
            let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
            host::check(&format!("the plan {}", names.join(", ")), bytes)?;
        }
        for (id, entry) in self.storage.entries().skip(self.provided) {
            self.backend.provide(id, entry)?;
        }
        self.provided = self.storage.entries().count();
        Ok(bytes)
    }

    /// Declares a stored buffer.
    ///
    /// # Errors
    /// Over a limit of the device.
    pub fn add(&mut self, name: &str, pool: Pool, words: u64, content: Content) -> Result<StorageId> {
        let limits = self.backend.info().limits;
        // Adapters and their moments are bound in ranges, everything else whole.
        let limit = match pool {
            Pool::Adapter | Pool::Optimizer => limits.max_buffer_bytes,
            _ => limits.max_binding_bytes,
        };
        if words.saturating_mul(4) > limit {
            return Err(Error::Limit { what: format!("{name} in bytes"), value: words.saturating_mul(4), limit });
        }
        Ok(self.storage.add(Entry { name: name.to_owned(), pool, words, content }))
    }

    /// Declares `adapters` and returns where they touch the model.
    ///
    /// # Errors
    /// An adapter that does not fit the base.
    pub fn attach(&mut self, base: &Base, adapters: &[Attach<'_>]) -> Result<Sites> {
        let mut sites = Sites::default();
        for attach in adapters {
            base.check(attach.adapter, attach.path)?;
            let arena = Arena::new(attach.adapter);
            let content = Content::Words(arena.pack(attach.adapter));
            let id = self.add("adapter", Pool::Adapter, arena.words(), content)?;
            arena.attach(&mut sites, id, None, attach.scale, attach.adapter.alpha);
        }
        Ok(sites)
    }
}

/// The input buffers of runs with up to `tokens` tokens.
#[derive(Debug, Clone, Copy)]
pub struct InputBuffers {
    /// Token ids.
    pub tokens: StorageId,
    /// Positions, for the rotation.
    pub positions: StorageId,
    /// First key that each token sees.
    pub starts: StorageId,
    /// Rows of the hidden state whose logits are wanted.
    pub rows: StorageId,
    rope: Rotation,
    /// Of windowed layers.
    local_rope: Rotation,
}

/// A rotation and its stored table.
#[derive(Debug, Clone, Copy)]
struct Rotation {
    table: StorageId,
    words: usize,
    rotary: usize,
    style: u32,
}

impl Rotation {
    /// The table of `config` for positions below `capacity`; in runs of `context` tokens, if the model's divisors of
    /// frequencies hold for it.
    fn new(
        engine: &mut Engine,
        name: &str,
        config: RopeConfig,
        context: Option<usize>,
        capacity: usize,
    ) -> Result<Self> {
        host::check("the rotation table", (capacity as u64).saturating_mul(config.rotary as u64 * 4))?;
        let factors = context.and_then(|context| engine.weights.rope_factors.of(context, config.original_context));
        let table = config.table(capacity, factors);
        let words = table.len();
        let table = engine.add(name, Pool::Inputs, words as u64, Content::Words(bytemuck::cast_vec(table)))?;
        Ok(Self { table, words, rotary: config.rotary, style: engine.config.rope_style })
    }

    fn of(&self, positions: View) -> Rope {
        Rope { positions, table: list(self.table, self.words), rotary: self.rotary, style: self.style }
    }
}

impl InputBuffers {
    /// Declares the inputs for runs of up to `tokens` tokens at positions below `capacity`, in sequences of up to
    /// `context` tokens (padding may lie behind them).
    ///
    /// # Errors
    /// A rotation table that the host cannot hold, or a list over the device's limits.
    pub fn new(engine: &mut Engine, tokens: usize, context: usize, capacity: usize) -> Result<Self> {
        let mut list = |name| engine.add(name, Pool::Inputs, tokens as u64, Content::Zeros);
        let (tokens, positions, starts, rows) = (list("tokens")?, list("positions")?, list("starts")?, list("rows")?);
        let rope = Rotation::new(engine, "rope_table", engine.config.rope, Some(context), capacity)?;
        let local_rope = match engine.config.local_rope {
            Some(local) => Rotation::new(engine, "local_rope_table", local, None, capacity)?,
            None => rope,
        };
        Ok(Self { tokens, positions, starts, rows, rope, local_rope })
    }

    /// The inputs of a run of `tokens` tokens.
    pub fn of(&self, tokens: usize) -> Inputs {
        let positions = list(self.positions, tokens);
        Inputs {
            tokens: list(self.tokens, tokens),
            starts: list(self.starts, tokens),
            rope: self.rope.of(positions),
            local_rope: self.local_rope.of(positions),
            noise: None,
        }
    }
}

/// The first `len` words of a stored list.
pub fn list(id: StorageId, len: usize) -> View {
    Tensor::stored(id, 0, 1, len).view()
}
