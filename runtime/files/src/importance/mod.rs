//! Importance matrices: how strongly each input of each product is driven on calibration text, which encoders weigh
//! their errors by.

mod file;

use std::collections::BTreeMap;

/// What a calibration run has seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Importance {
    /// Names of the texts.
    pub datasets: Vec<String>,
    /// Pieces of text that were run.
    pub chunks: u32,
    /// Tokens of a piece.
    pub chunk_size: u32,
    /// Statistics by the name of the weight: "blk.0.attn_q.weight".
    pub entries: BTreeMap<String, Entry>,
}

/// The inputs of one weight, or of a stack of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Sums of squares of the inputs, [matrices, inputs].
    pub sums: Vec<f32>,
    /// How many inputs each matrix has seen.
    pub counts: Vec<f32>,
}

impl Entry {
    /// Inputs of a matrix.
    pub fn inputs(&self) -> usize {
        self.sums.len() / self.counts.len().max(1)
    }

    /// Mean squares, [matrices, inputs]; 1 for a matrix that has seen nothing: an expert that no token was sent to.
    pub fn means(&self) -> Vec<f32> {
        let rows = self.sums.chunks(self.inputs().max(1)).zip(&self.counts);
        rows.flat_map(|(sums, count)| sums.iter().map(move |sum| if *count > 0.0 { sum / count } else { 1.0 }))
            .collect()
    }
}
