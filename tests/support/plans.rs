//! Plans made by hand: stored buffers, views and nodes.

use std::sync::Arc;

use loam::SharedBytes;
use loam::plan::{Content, Entry, Location, Node, Plan, Pool, StorageId, View, When};
use loam_shaders::{Call, Format};

/// A buffer with these values.
pub fn values(values: &[f32]) -> Entry {
    let words: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
    Entry { name: "values".into(), pool: Pool::Inputs, words: words.len() as u64, content: Content::Words(words) }
}

/// A buffer of zeros.
pub fn zeros(words: u64) -> Entry {
    Entry { name: "zeros".into(), pool: Pool::Cache, words, content: Content::Zeros }
}

/// All of a stored buffer.
pub fn stored(id: StorageId, words: u64) -> View {
    View { location: Location::Stored(id), offset: 0, words }
}

/// All of a slot.
pub fn slot(index: u32, words: u64) -> View {
    View { location: Location::Slot(index), offset: 0, words }
}

/// A call with its operands.
pub fn node(label: &str, call: Call, operands: &[View]) -> Node {
    Node { call, operands: operands.to_vec(), label: label.into(), when: When::default() }
}

/// Nodes with temporary buffers of so many words.
pub fn plan(slots: &[u64], nodes: Vec<Node>) -> Plan {
    Plan { name: "test".into(), nodes, slots: slots.to_vec() }
}

/// A weight of `rows` x `cols` in GGUF blocks.
pub fn weight(format: Format, rows: usize, cols: usize, blocks: Vec<u8>) -> Entry {
    let blocks = SharedBytes { range: 0..blocks.len(), source: Arc::new(blocks) }.into();
    let content = Content::Weight { format, rows, cols, blocks };
    Entry { name: "weight".into(), pool: Pool::Weights, words: format.packed_words(rows, cols), content }
}
