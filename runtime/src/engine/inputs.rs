//! The inputs that every run of the model has: tokens, positions, key ranges, and tables of rotations.

use super::{Engine, Resources};
use crate::error::Result;
use crate::host;
use crate::model::{Inputs, RopeConfig};
use crate::ops::rope::Rope;
use crate::plan::{Content, Pool, StorageId, Tensor, View};

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
    style: loam_shaders::rope::Style,
}

impl Rotation {
    /// The table of `config` for positions below `capacity`; in runs of `context` tokens, if the model's divisors of
    /// frequencies hold for it.
    fn new(
        engine: &mut Engine,
        resources: &mut Resources,
        name: &str,
        config: RopeConfig,
        context: Option<usize>,
        capacity: usize,
    ) -> Result<Self> {
        host::check("the rotation table", (capacity as u64).saturating_mul(config.rotary as u64 * 4))?;
        let factors = context.and_then(|context| engine.weights.rope_factors.of(context, config.original_context));
        let table = config.table(capacity, factors);
        let words = table.len();
        let table =
            engine.add(resources, name, Pool::Inputs, words as u64, Content::Words(bytemuck::cast_vec(table)))?;
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
    pub fn new(
        engine: &mut Engine,
        resources: &mut Resources,
        tokens: usize,
        context: usize,
        capacity: usize,
    ) -> Result<Self> {
        let mut list = |name| engine.add(resources, name, Pool::Inputs, tokens as u64, Content::Zeros);
        let (tokens, positions, starts, rows) = (list("tokens")?, list("positions")?, list("starts")?, list("rows")?);
        let rope = Rotation::new(engine, resources, "rope_table", engine.config.rope, Some(context), capacity)?;
        let local_rope = match engine.config.local_rope {
            Some(local) => Rotation::new(engine, resources, "local_rope_table", local, None, capacity)?,
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
