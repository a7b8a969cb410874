//! Pausing, resuming and ending a run from outside: another thread, a signal, a button.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const RUN: u8 = 0;
const PAUSE: u8 = 1;
const CANCEL: u8 = 2;

/// Steers one run; clones steer the same one. Safe to call from a signal handler's thread.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<AtomicU8>);

impl Control {
    /// A run continues until it is told otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// The run waits after the work that is submitted, with everything in memory, until [`Self::resume`].
    pub fn pause(&self) {
        self.change(RUN, PAUSE);
    }

    /// A paused run continues.
    pub fn resume(&self) {
        self.change(PAUSE, RUN);
    }

    /// The run ends after the present micro-batch with [`Error::Stopped`](crate::Error::Stopped), having written a
    /// checkpoint if it has a folder for them. This cannot be taken back.
    pub fn cancel(&self) {
        self.0.store(CANCEL, Ordering::SeqCst);
    }

    /// Whether the run is to wait.
    pub fn is_paused(&self) -> bool {
        self.0.load(Ordering::SeqCst) == PAUSE
    }

    /// Whether the run is to end.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst) == CANCEL
    }

    fn change(&self, from: u8, to: u8) {
        // In any other state there is nothing to change.
        let _ = self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_run_stays_cancelled() {
        let control = Control::new();
        let other = control.clone();
        other.pause();
        assert!(control.is_paused());
        control.resume();
        assert!(!other.is_paused() && !other.is_cancelled());
        control.cancel();
        other.pause();
        other.resume();
        assert!(control.is_cancelled());
    }
}
