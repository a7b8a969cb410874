//! What a GPU holds besides stored buffers and slots: uniforms, memory of uploads and of reading back. The back end and
//! the prediction of its memory ([`super::Rehearsal`]) both count with these.

use loam_shaders::{Format, Step};

use super::Memory;
use crate::plan::{Plan, Pool};

/// Bytes from one node's parameters to the next: the largest alignment of dynamic offsets that WebGPU allows a device.
pub const PARAMS_STRIDE: u64 = 256;

/// Bytes of the uniform of the step.
pub const STEP_BYTES: u64 = size_of::<Step>() as u64;

/// Bytes that one upload step packs and copies.
pub const UPLOAD_BYTES: u64 = 16 << 20;

/// Upload memory after which the queue is flushed and waited for.
const STAGED_BYTES: u64 = 64 << 20;

/// Read-back buffers up to this size are kept for the next read.
const KEPT_WORDS: u64 = 1 << 20;

/// Bytes of the uniform with the parameters of all nodes.
pub fn params_bytes(plan: &Plan) -> u64 {
    plan.nodes.len().max(1) as u64 * PARAMS_STRIDE
}

/// Rows of a weight that go up at once.
pub fn upload_rows(format: Format, cols: usize) -> usize {
    let words = (format.quant_words(cols) + format.scale_words(cols)) as u64;
    (UPLOAD_BYTES / (words * 4).max(1)).max(1) as usize
}

/// Bytes given to the queue since it was last flushed.
#[derive(Debug, Default)]
pub struct Uploads {
    staged: u64,
}

impl Uploads {
    /// Counts `bytes` more. Returns whether it is time to flush.
    pub fn add(&mut self, memory: &mut Memory, bytes: u64) -> bool {
        self.staged += bytes;
        memory.add(Pool::Staging, bytes);
        self.staged >= STAGED_BYTES
    }

    /// Counts the memory as free again. Returns whether there was any.
    pub fn flush(&mut self, memory: &mut Memory) -> bool {
        let staged = std::mem::take(&mut self.staged);
        memory.sub(Pool::Staging, staged);
        staged > 0
    }
}

/// The size of the read-back buffer, if there is one.
#[derive(Debug, Default)]
pub struct ReadBack {
    words: Option<u64>,
}

impl ReadBack {
    /// Makes room for `words` words, in a new buffer if `renew` says so or the present one is too small. Returns the
    /// length of that new buffer; the caller frees the old one before.
    pub fn reserve(&mut self, memory: &mut Memory, words: u64, renew: bool) -> Option<u64> {
        if !renew && self.words.is_some_and(|kept| kept >= words) {
            return None;
        }
        self.free(memory);
        let words = if words <= KEPT_WORDS { words.next_power_of_two() } else { words };
        memory.add(Pool::Staging, words * 4);
        self.words = Some(words);
        Some(words)
    }

    /// Whether the buffer of a finished read of `words` words is freed rather than kept.
    pub fn is_too_large(words: u64) -> bool {
        words > KEPT_WORDS
    }

    /// Counts the buffer as free.
    pub fn free(&mut self, memory: &mut Memory) {
        if let Some(words) = self.words.take() {
            memory.sub(Pool::Staging, words * 4);
        }
    }
}
