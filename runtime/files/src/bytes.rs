//! Bytes of a file that stay where they are while somebody uses them.

use std::ops::Range;
use std::sync::Arc;

/// Bytes shared with the file they came from: the whole map stays alive while a weight uses it.
#[derive(Clone)]
pub struct SharedBytes {
    /// The file's bytes (a memory map, or memory).
    pub source: Arc<dyn AsRef<[u8]> + Send + Sync>,
    /// The part that is meant.
    pub range: Range<usize>,
}

impl SharedBytes {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &(*self.source).as_ref()[self.range.clone()]
    }
}

impl std::fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedBytes").field("range", &self.range).finish_non_exhaustive()
    }
}
