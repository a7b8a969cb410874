//! Low-rank adapters: their place in device memory, and where they touch the model.

mod arena;
mod lora;

use std::collections::HashMap;
use std::path::Path;

pub use arena::{Arena, Trained};
pub use loam_files::adapter::{AdapterFile, BASE_DIGEST, Pair, TEMPLATE_DIGEST, TOKENIZER_DIGEST, is_lookup};
pub use lora::{LoraOptions, Targets};

use crate::ops::dense::LowRank;
use crate::plan::{Tensor, View};

/// What is done where a linear layer, the embedding or the head is recorded besides its product, by the weight's GGUF tensor
/// name. Several adapters may sit on one weight.
#[derive(Debug, Clone, Default)]
pub struct Sites {
    updates: HashMap<String, Vec<LowRank>>,
    watched: HashMap<String, Watch>,
    noise: Option<(View, u32)>,
}

/// Where the squares of a weight's inputs are summed up.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// The sums, [matrices, inputs].
    pub sums: Tensor,
    /// Of a stack of experts: how many inputs each has seen, u32[1, matrices]. A single matrix sees all.
    pub counts: Option<Tensor>,
}

impl Sites {
    /// The updates on `weight`, in the order in which they were added.
    pub fn of(&self, weight: &str) -> &[LowRank] {
        self.updates.get(weight).map_or(&[], Vec::as_slice)
    }

    /// Where the squares of the inputs of `weight` are summed up, if they are.
    pub fn watched(&self, weight: &str) -> Option<Watch> {
        self.watched.get(weight).copied()
    }

    /// Sums up the squares of the inputs of `weight`.
    pub fn watch(&mut self, weight: &str, watch: Watch) {
        self.watched.insert(weight.to_owned(), watch);
    }

    /// The magnitudes of the noise on each token's embedding, f32[tokens], if there is any, and how many tokens are a row of
    /// the batch.
    pub fn noise(&self) -> Option<(View, u32)> {
        self.noise
    }

    /// Adds noise of these magnitudes to the embeddings.
    pub fn add_noise(&mut self, magnitudes: View) {
        self.noise = Some((magnitudes, 0));
    }

    /// The same for rows of `context` tokens: what is drawn for a row depends on its number in the step.
    #[must_use]
    pub fn in_rows(&self, context: usize) -> Self {
        let mut sites = self.clone();
        let dropouts = sites.updates.values_mut().flatten().filter_map(|update| update.dropout.as_mut());
        dropouts.for_each(|dropout| dropout.context = context as u32);
        sites.noise = sites.noise.map(|(magnitudes, _)| (magnitudes, context as u32));
        sites
    }

    /// The same without what only training does: dropout and noise.
    #[must_use]
    pub fn evaluating(&self) -> Self {
        let mut sites = Self { noise: None, ..self.clone() };
        sites.updates.values_mut().flatten().for_each(|update| update.dropout = None);
        sites
    }

    /// Adds an update on `weight`.
    pub fn add(&mut self, weight: &str, update: LowRank) {
        self.updates.entry(weight.to_owned()).or_default().push(update);
    }
}

/// An adapter to run with.
pub struct Attach<'a> {
    /// The adapter.
    pub adapter: &'a AdapterFile,
    /// Its file, for error messages.
    pub path: &'a Path,
    /// Factor on alpha / rank.
    pub scale: f32,
}
