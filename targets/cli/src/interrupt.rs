//! Ctrl-C while an answer is made: it stops the answer, not the program.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether Ctrl-C came since the answer began.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether the answer is to stop.
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// While this lives, the first Ctrl-C only makes [`is_asked`] true; the second one ends the program.
pub struct Guard {
    #[cfg(unix)]
    before: libc::sigaction,
}

#[cfg(unix)]
extern "C" fn ask(_: libc::c_int) {
    if ASKED.swap(true, Ordering::Relaxed) {
        // SAFETY: `_exit` may be called in a signal handler.
        unsafe { libc::_exit(libc::c_int::from(crate::failure::INTERRUPTED)) };
    }
}

impl Guard {
    /// From now on.
    #[cfg(unix)]
    pub fn new() -> Self {
        ASKED.store(false, Ordering::Relaxed);
        // SAFETY: all-zero bytes are a valid `sigaction`, and the handler only touches an atomic.
        let (mut action, mut before) = unsafe { (std::mem::zeroed::<libc::sigaction>(), std::mem::zeroed()) };
        action.sa_sigaction = ask as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: both point to values that live here. Where the handler cannot be set, Ctrl-C ends the program as
        // before.
        unsafe { libc::sigaction(libc::SIGINT, &raw const action, &raw mut before) };
        Guard { before }
    }

    /// Elsewhere Ctrl-C ends the program.
    #[cfg(not(unix))]
    pub fn new() -> Self {
        Guard {}
    }
}

#[cfg(unix)]
impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: the handler of before goes back to its place.
        unsafe { libc::sigaction(libc::SIGINT, &raw const self.before, std::ptr::null_mut()) };
    }
}
