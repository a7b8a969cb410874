//! What importance matrices are made of: sums over the inputs of linear layers.

use std::collections::HashMap;

use crate::plan::Tensor;

/// Where the squares of a weight's inputs are summed up.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// The sums, [matrices, inputs].
    pub sums: Tensor,
    /// Of a stack of experts: how many inputs each has seen, u32[1, matrices]. A single matrix sees all.
    pub counts: Option<Tensor>,
}

/// The watched weights by their GGUF names.
#[derive(Debug, Clone, Default)]
pub struct Watches(HashMap<String, Watch>);

impl Watches {
    /// Sums up the squares of the inputs of `weight`.
    pub fn add(&mut self, weight: &str, watch: Watch) {
        self.0.insert(weight.to_owned(), watch);
    }

    /// Where the squares of the inputs of `weight` are summed up, if they are.
    pub fn get(&self, weight: &str) -> Option<Watch> {
        self.0.get(weight).copied()
    }
}
