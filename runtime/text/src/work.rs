//! Counts work, so that tests can tell how it grows without a clock.

use std::cell::Cell;

thread_local! {
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// Adds steps or bytes.
#[inline]
pub fn count(amount: usize) {
    DONE.set(DONE.get() + amount as u64);
}

/// What `run` does in this thread.
pub fn done_by(run: impl FnOnce()) -> u64 {
    let before = DONE.get();
    run();
    DONE.get() - before
}
