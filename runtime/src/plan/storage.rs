//! Stored buffers: what outlives a plan. Declared here as data; a back end allocates and fills them.

use loam_files::SharedBytes;
use loam_shaders::Format;

/// Index of an [`Entry`] in a [`Storage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageId(pub u32);

/// What a buffer is for, in memory reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pool {
    /// Frozen base weights.
    Weights,
    /// Keys and values of past tokens.
    Cache,
    /// Adapter parameters and their gradients.
    Adapter,
    /// Optimizer moments.
    Optimizer,
    /// Token ids, positions, labels, tables and results.
    Inputs,
    /// Slots of compiled plans.
    Activations,
    /// Upload and read-back buffers.
    Staging,
}

impl Pool {
    /// All pools in report order.
    pub const ALL: [Pool; 7] =
        [Pool::Weights, Pool::Cache, Pool::Adapter, Pool::Optimizer, Pool::Inputs, Pool::Activations, Pool::Staging];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Pool::Weights => "weights",
            Pool::Cache => "cache",
            Pool::Adapter => "adapter",
            Pool::Optimizer => "optimizer",
            Pool::Inputs => "inputs",
            Pool::Activations => "activations",
            Pool::Staging => "staging",
        }
    }
}

/// What a stored buffer holds at first.
#[derive(Debug, Clone)]
pub enum Content {
    /// Zeros.
    Zeros,
    /// These words.
    Words(Vec<u32>),
    /// Rows of a quantised weight in GGUF block layout. The CPU uses the bytes in place ([`loam_shaders::Bind::Blocks`]);
    /// a GPU uploads them as planes ([`Format::pack`]).
    Weight {
        /// Block format.
        format: Format,
        /// Rows (output features) of this part.
        rows: usize,
        /// Columns (input features): a row is contiguous.
        cols: usize,
        /// `rows * format.row_bytes(cols)` bytes.
        blocks: SharedBytes,
    },
}

/// A stored buffer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// GGUF tensor name, or what the buffer is for.
    pub name: String,
    /// Which pool it counts in.
    pub pool: Pool,
    /// Length in words as a device binds it. For [`Content::Weight`]: the packed length.
    pub words: u64,
    /// What it holds at first.
    pub content: Content,
}

/// All stored buffers of a session, by [`StorageId`].
#[derive(Debug, Clone, Default)]
pub struct Storage {
    entries: Vec<Entry>,
}

impl Storage {
    /// Declares a buffer.
    pub fn add(&mut self, entry: Entry) -> StorageId {
        self.entries.push(entry);
        StorageId(self.entries.len() as u32 - 1)
    }

    /// The declaration of `id`.
    pub fn get(&self, id: StorageId) -> &Entry {
        &self.entries[id.0 as usize]
    }

    /// All declarations in order of their ids.
    pub fn entries(&self) -> impl Iterator<Item = (StorageId, &Entry)> {
        self.entries.iter().enumerate().map(|(i, e)| (StorageId(i as u32), e))
    }
}
