//! Who has which blocks of the cache: each sequence has a table of them, the others are free.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loam_shaders::attention::BLOCK;

use crate::engine::AdapterHandle;
use crate::error::{Error, Result};

/// Blocks that no sequence has. A runner and its sequences share the list.
#[derive(Debug, Clone)]
pub(super) struct FreeBlocks(Arc<Mutex<Vec<u32>>>);

impl FreeBlocks {
    pub fn new(count: u32) -> Self {
        Self(Arc::new(Mutex::new((0..count).rev().collect())))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list().len()
    }

    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn list(&self) -> MutexGuard<'_, Vec<u32>> {
        // Every change of the list is one call: it is whole whatever happened to the thread that held the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sequence of tokens whose keys and values are in the cache of a [`super::Runner`]. Dropped, it gives its blocks
/// back.
#[derive(Debug)]
pub struct Sequence {
    pub(super) adapters: AdapterHandle,
    pub(super) free: FreeBlocks,
    /// Its blocks, in the order of its tokens.
    pub(super) table: Vec<u32>,
    len: usize,
}

impl Sequence {
    pub(super) fn new(free: FreeBlocks, adapters: AdapterHandle) -> Self {
        Self { adapters, free, table: Vec::new(), len: 0 }
    }

    /// Tokens whose keys and values are in the cache.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no tokens yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps only the first `tokens` tokens; blocks after them are free again.
    pub fn truncate(&mut self, tokens: usize) {
        self.len = self.len.min(tokens);
        let blocks = self.table.split_off(self.blocks(0).min(self.table.len()));
        self.free.list().extend(blocks.into_iter().rev());
    }

    /// Blocks of the tokens and `more` after them.
    fn blocks(&self, more: usize) -> usize {
        (self.len + more).div_ceil(BLOCK)
    }

    /// Blocks that `more` tokens need besides those that it has.
    pub(super) fn needed(&self, more: usize) -> usize {
        self.blocks(more).saturating_sub(self.table.len())
    }

    /// Takes the blocks for `more` tokens.
    pub(super) fn reserve(&mut self, more: usize) -> Result<()> {
        let needed = self.needed(more);
        let mut free = self.free.list();
        let Some(rest) = free.len().checked_sub(needed) else {
            return Err(Error::CacheFull { needed, free: free.len() });
        };
        self.table.extend(free.split_off(rest).into_iter().rev());
        Ok(())
    }

    /// Row of the cache that holds token `position`.
    pub(super) fn row(&self, position: usize) -> u32 {
        self.table[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32
    }

    /// `tokens` more are in the cache.
    pub(super) fn grow(&mut self, tokens: usize) {
        self.len += tokens;
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_taken_as_tokens_need_them_and_given_back() {
        let free = FreeBlocks::new(4);
        let sequence = || Sequence::new(free.clone(), AdapterHandle::none());
        let (mut a, mut b) = (sequence(), sequence());
        a.reserve(BLOCK).expect("one block");
        a.grow(BLOCK);
        b.reserve(1).expect("another");
        b.grow(1);
        a.reserve(1).expect("a third");
        a.grow(1);
        assert_eq!((a.table.as_slice(), b.table.as_slice(), free.count()), (&[0, 2][..], &[1][..], 1));
        assert_eq!(a.row(BLOCK), 2 * BLOCK as u32);
        assert_eq!(a.needed(BLOCK - 1), 0, "its last block has room");
        let full = b.reserve(3 * BLOCK);
        assert!(matches!(full, Err(Error::CacheFull { needed: 3, free: 1 })), "{full:?}");
        assert_eq!(free.count(), 1, "nothing is taken where not all can be");
        a.truncate(BLOCK);
        assert_eq!((a.len(), free.count()), (BLOCK, 2));
        a.truncate(0);
        assert!(a.is_empty());
        drop((a, b));
        assert_eq!(free.count(), 4);
    }
}
