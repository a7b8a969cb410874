//! The inputs that every run of the model has: tokens, positions, and tables of rotations.

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
    /// The table of `config` for sequences of `context` tokens; `has_factors`: the model's divisors of frequencies hold
    /// for it.
    fn new(
        engine: &mut Engine,
        resources: &mut Resources,
        name: &str,
        config: RopeConfig,
        has_factors: bool,
        context: usize,
    ) -> Result<Self> {
        host::check("the rotation table", (context as u64).saturating_mul(config.rotary as u64 * 4))?;
        let factors = &engine.weights.rope_factors;
        let factors = if has_factors { factors.for_context(context, config.original_context) } else { None };
        let table = config.table(context, factors);
        let words = table.len();
        let table =
            engine.add(resources, name, Pool::Inputs, words as u64, Content::Words(bytemuck::cast_vec(table)))?;
        Ok(Self { table, words, rotary: config.rotary, style: engine.config.rope_style })
    }

    fn at(&self, positions: View) -> Rope {
        Rope { positions, table: list(self.table, self.words), rotary: self.rotary, style: self.style }
    }
}

impl InputBuffers {
    /// Declares the inputs for runs of up to `tokens` tokens, in sequences of up to `context` tokens.
    ///
    /// # Errors
    /// A rotation table that the host cannot hold, or a list over the device's limits.
    pub fn new(engine: &mut Engine, resources: &mut Resources, tokens: usize, context: usize) -> Result<Self> {
        let mut list = |name| engine.add(resources, name, Pool::Inputs, tokens as u64, Content::Zeros);
        let (tokens, positions, rows) = (list("tokens")?, list("positions")?, list("rows")?);
        let rope = Rotation::new(engine, resources, "rope_table", engine.config.rope, true, context)?;
        let local_rope = match engine.config.local_rope {
            Some(local) => Rotation::new(engine, resources, "local_rope_table", local, false, context)?,
            None => rope,
        };
        Ok(Self { tokens, positions, rows, rope, local_rope })
    }

    /// The inputs of a run of `tokens` tokens.
    pub fn first(&self, tokens: usize) -> Inputs {
        let positions = list(self.positions, tokens);
        Inputs {
            tokens: list(self.tokens, tokens),
            rope: self.rope.at(positions),
            local_rope: self.local_rope.at(positions),
            noise: None,
        }
    }
}

/// The first `len` words of a stored list.
pub fn list(id: StorageId, len: usize) -> View {
    Tensor::stored(id, 0, 1, len).view()
}
