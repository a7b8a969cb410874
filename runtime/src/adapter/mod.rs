//! Low-rank adapters: their place in device memory, and where they touch the model.

mod arena;
mod lora;

use std::collections::HashMap;
use std::path::Path;

pub use arena::{Arena, Trained};
pub use loam_files::adapter::{AdapterFile, BASE_DIGEST, Pair, TEMPLATE_DIGEST, TOKENIZER_DIGEST, is_lookup};
pub use lora::{LoraOptions, Targets};

use crate::ops::dense::LowRank;
use crate::ops::dropout::Dropout;

/// What adapters do where a linear layer, the embedding or the head is recorded, by the weight's GGUF tensor name. Several
/// adapters may sit on one weight.
#[derive(Debug, Clone, Default)]
pub struct Sites {
    updates: HashMap<String, Vec<LowRank>>,
}

impl Sites {
    /// The updates on `weight`, in the order in which they were added.
    pub fn of(&self, weight: &str) -> &[LowRank] {
        self.updates.get(weight).map_or(&[], Vec::as_slice)
    }

    /// The updates on `weight` for rows with a loss, `first` of which were before: not rows of the batch. Masks continue
    /// from one list to the next, so that they do not depend on how many there are.
    pub fn of_listed(&self, weight: &str, first: usize) -> Vec<LowRank> {
        let listed = |dropout| Dropout { first_row: first as u32, context: 0, ..dropout };
        self.of(weight).iter().map(|update| LowRank { dropout: update.dropout.map(listed), ..*update }).collect()
    }

    /// The same for rows of `context` tokens: what is drawn for a row depends on its number in the step.
    #[must_use]
    pub fn in_rows(&self, context: usize) -> Self {
        let mut sites = self.clone();
        let dropouts = sites.updates.values_mut().flatten().filter_map(|update| update.dropout.as_mut());
        dropouts.for_each(|dropout| dropout.context = context as u32);
        sites
    }

    /// The same without what only training does: dropout.
    #[must_use]
    pub fn evaluating(&self) -> Self {
        let mut sites = self.clone();
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
