//! What a back end uses: memory, and time per submission.

use std::collections::BTreeMap;

use super::Times;
use crate::plan::Pool;

/// What a back end has used so far.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Memory in use, and its peak.
    pub memory: Memory,
    /// How long submissions took. Empty where nothing is submitted.
    pub times: Times,
}

/// Device memory by pool, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Allocated now.
    pub current: BTreeMap<Pool, u64>,
    /// Largest sum over all pools so far.
    pub peak_bytes: u64,
}

impl Memory {
    /// Counts an allocation.
    pub fn add(&mut self, pool: Pool, bytes: u64) {
        let entry = self.current.entry(pool).or_default();
        *entry = entry.saturating_add(bytes);
        self.peak_bytes = self.peak_bytes.max(self.current_bytes());
    }

    /// Sum over all pools.
    pub fn current_bytes(&self) -> u64 {
        self.current.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Counts a release.
    pub fn sub(&mut self, pool: Pool, bytes: u64) {
        let entry = self.current.entry(pool).or_default();
        *entry = entry.saturating_sub(bytes);
    }
}
