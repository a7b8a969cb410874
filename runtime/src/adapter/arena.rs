//! An adapter in device memory: all A and B of all sites in one buffer, so that one dispatch updates them all.

use crate::ops::dense::LowRank;
use crate::plan::{StorageId, Tensor};

use super::{AdapterFile, Pair, Sites, is_lookup};

/// Devices bind buffers at multiples of 256 bytes.
const ALIGN_WORDS: u64 = 64;

/// One site's place in the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    name: String,
    rank: usize,
    matrices: usize,
    inputs: usize,
    outputs: usize,
    a: u64,
    b: u64,
}

/// Where every A [rank, in] (of the embedding [tokens, rank]) and B [out, rank] of an adapter lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arena {
    places: Vec<Place>,
    words: u64,
}

impl Arena {
    /// Lays out the pairs of `adapter` in their order.
    pub fn new(adapter: &AdapterFile) -> Self {
        let mut words = 0;
        let mut reserve = |len: usize| {
            let at = words;
            words += (len as u64).next_multiple_of(ALIGN_WORDS);
            at
        };
        let places = adapter.tensors.iter().map(|(name, pair)| {
            let (rank, matrices, inputs, outputs) = (pair.rank, pair.matrices, pair.inner(), pair.rows());
            let (a, b) = (reserve(pair.a.len()), reserve(pair.b.len()));
            Place { name: name.clone(), rank, matrices, inputs, outputs, a, b }
        });
        let places = places.collect();
        Self { places, words }
    }

    /// Length in words.
    pub fn words(&self) -> u64 {
        self.words
    }

    /// Number of values, without the words between them.
    pub fn parameters(&self) -> usize {
        self.places.iter().map(|p| p.rank * (p.inputs + p.outputs)).sum()
    }

    /// The values of `adapter`, which has the shapes that this arena was made from, as the arena's words.
    pub fn pack(&self, adapter: &AdapterFile) -> Vec<u32> {
        let mut words = vec![0; self.words as usize];
        for (place, (_, pair)) in self.places.iter().zip(&adapter.tensors) {
            for (at, values) in [(place.a, &pair.a), (place.b, &pair.b)] {
                words[at as usize..at as usize + values.len()].copy_from_slice(bytemuck::cast_slice(values));
            }
        }
        words
    }

    /// The pairs in the arena's `words`, by weight name.
    pub fn unpack(&self, words: &[u32]) -> Vec<(String, Pair)> {
        let values = |at: u64, len: usize| bytemuck::cast_slice(&words[at as usize..at as usize + len]).to_vec();
        let pair = |p: &Place| {
            let rows = p.rank * p.matrices;
            Pair {
                a: values(p.a, rows * p.inputs),
                b: values(p.b, rows * p.outputs),
                rank: p.rank,
                matrices: p.matrices,
            }
        };
        self.places.iter().map(|p| (p.name.clone(), pair(p))).collect()
    }

    /// Adds the arena's updates to `sites`: values in `parameters`, summed gradients in `gradients`. `strength` times
    /// alpha / rank is each update's scale.
    pub fn attach(
        &self,
        sites: &mut Sites,
        parameters: StorageId,
        gradients: Option<StorageId>,
        strength: f32,
        alpha: f32,
    ) {
        for p in &self.places {
            let at = |id: StorageId| {
                let (rows, cols) = if is_lookup(&p.name) { (p.inputs, p.rank) } else { (p.rank, p.inputs) };
                let a = Tensor::stored(id, p.a, p.matrices * rows, cols);
                (a, Tensor::stored(id, p.b, p.matrices * p.outputs, p.rank))
            };
            let (a, b) = at(parameters);
            let scale = strength * alpha / p.rank as f32;
            sites.add(&p.name, LowRank { a, b, scale, gradients: gradients.map(at) });
        }
    }
}
