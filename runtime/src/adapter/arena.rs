//! An adapter in device memory: all A and then all B of all sites in one buffer, so that one dispatch updates them all,
//! or one those of each kind.

use crate::ops::dense::LowRank;
use crate::ops::dropout::Dropout;
use crate::plan::{StorageId, Tensor};

use super::{AdapterFile, Pair, Sites, is_lookup};

/// Devices bind buffers at multiples of 256 bytes; a block of an optimizer's 8-bit state belongs to one matrix.
const ALIGN_WORDS: u64 = 256;

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
    b: u64,
    words: u64,
}

/// What an adapter in training has besides its values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trained {
    /// Summed gradients, laid out as the values.
    pub gradients: StorageId,
    /// Rate of the dropout on what A sees; 0 for none.
    pub dropout: f32,
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
        let starts: Vec<u64> = adapter.tensors.iter().map(|(_, pair)| reserve(pair.a.len())).collect();
        let b = reserve(0);
        let places = adapter.tensors.iter().zip(starts).map(|((name, pair), a)| {
            let (rank, matrices, inputs, outputs) = (pair.rank, pair.matrices, pair.inner(), pair.rows());
            Place { name: name.clone(), rank, matrices, inputs, outputs, a, b: reserve(pair.b.len()) }
        });
        let places = places.collect();
        Self { places, b, words }
    }

    /// Where the first B begins.
    pub fn b(&self) -> u64 {
        self.b
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

    /// The first weight that stands for several matrices, if there is one: experts.
    pub fn stack(&self) -> Option<&str> {
        self.places.iter().find(|place| place.matrices > 1).map(|place| place.name.as_str())
    }

    /// Adds the arena's updates to `sites`: values in `parameters`, `strength` times alpha / rank as each update's scale.
    pub fn attach(
        &self,
        sites: &mut Sites,
        parameters: StorageId,
        trained: Option<Trained>,
        strength: f32,
        alpha: f32,
    ) {
        for (site, p) in (0..).zip(&self.places) {
            let at = |id: StorageId| {
                let (rows, cols) = if is_lookup(&p.name) { (p.inputs, p.rank) } else { (p.rank, p.inputs) };
                let a = Tensor::stored(id, p.a, p.matrices * rows, cols);
                (a, Tensor::stored(id, p.b, p.matrices * p.outputs, p.rank))
            };
            let (a, b) = at(parameters);
            let scale = strength * alpha / p.rank as f32;
            let rate = trained.map_or(0.0, |trained| trained.dropout);
            let dropout = (rate > 0.0).then_some(Dropout { site, rate, first_row: 0, context: 0 });
            sites.add(
                &p.name,
                LowRank { a, b, scale, gradients: trained.map(|trained| at(trained.gradients)), dropout },
            );
        }
    }
}
