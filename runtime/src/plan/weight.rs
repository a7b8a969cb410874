//! A frozen matrix, as its parts lie in stored buffers.

use loam_shaders::Format;

use super::{Location, StorageId, Tensor, View};

/// Some rows of a weight in one stored buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightPart {
    /// The buffer.
    pub storage: StorageId,
    /// First row.
    pub row0: usize,
    /// Number of rows.
    pub rows: usize,
    /// Length in words as a device binds it.
    pub words: u64,
}

impl WeightPart {
    /// The whole part.
    pub fn view(&self) -> View {
        View { location: Location::Stored(self.storage), offset: 0, words: self.words }
    }
}

/// A frozen matrix [rows (out), cols (in)].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// GGUF tensor name.
    pub name: String,
    /// Block format.
    pub format: Format,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// All rows in order; one part unless the device's binding limit asks for more.
    pub parts: Vec<WeightPart>,
    /// f32[1, rows], added to every output row, and `f32[1]`, the number 1 that it is multiplied with.
    pub bias: Option<(Tensor, Tensor)>,
}
