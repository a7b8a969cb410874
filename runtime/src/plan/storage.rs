//! Stored buffers: what outlives a plan. Declared here as data; a back end allocates and fills them.

use loam_files::FileRange;
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
    /// Rows of a quantised weight in GGUF block layout. The CPU uses the bytes in place
    /// ([`loam_shaders::Bind::Blocks`]); a GPU uploads them as planes ([`Format::pack`]).
    Weight {
        /// Block format.
        format: Format,
        /// Rows (output features) of this part.
        rows: usize,
        /// Columns (input features): a row is contiguous.
        cols: usize,
        /// `rows * format.row_bytes(cols)` bytes.
        blocks: FileRange,
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

/// All stored buffers of an engine, by [`StorageId`].
#[derive(Debug, Clone, Default)]
pub struct Storage {
    entries: Vec<Option<Entry>>,
    /// Ids that can be used again.
    free: Vec<StorageId>,
}

impl Storage {
    /// Declares a buffer, under an id that no other one has now.
    pub fn add(&mut self, entry: Entry) -> StorageId {
        if let Some(id) = self.free.pop() {
            self.entries[id.0 as usize] = Some(entry);
            return id;
        }
        self.entries.push(Some(entry));
        StorageId(self.entries.len() as u32 - 1)
    }

    /// Takes a declaration back; its id may be used again.
    pub fn remove(&mut self, id: StorageId) {
        if self.entries.get_mut(id.0 as usize).and_then(Option::take).is_some() {
            self.free.push(id);
        }
    }

    /// The declaration of `id`.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, id: StorageId) -> &Entry {
        match self.entries.get(id.0 as usize) {
            Some(Some(entry)) => entry,
            _ => panic!("stored buffer {} is not declared", id.0),
        }
    }

    /// All declarations in order of their ids.
    pub fn entries(&self) -> impl Iterator<Item = (StorageId, &Entry)> {
        (0..).map(StorageId).zip(&self.entries).filter_map(|(id, entry)| Some((id, entry.as_ref()?)))
    }
}
