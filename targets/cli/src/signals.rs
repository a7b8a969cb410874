//! What signals do: end the program with nothing half-written and with a sentence, or nothing at all.

use crate::{failure, upkeep};

/// From now on signals do what they should. Before any other thread is started.
pub fn prepare() {
    clean_up();
    say_what_was_cut();
    leave_limits_to_writes();
}

/// Ctrl-C and SIGTERM end the program without leaving a temporary file beside the output it was writing, unless the
/// next run can continue with it. A training run that keeps checkpoints writes one first; a second signal does not wait
/// for it.
fn clean_up() {
    // Where no handler can be set, signals end the program as they always do.
    let _ = ctrlc::set_handler(|| {
        if upkeep::stop() {
            return;
        }
        let kept = loam::file::remove_temporaries();
        tell_in_time(move || failure::interrupted(&kept));
        std::process::exit(i32::from(failure::INTERRUPTED));
    });
}

/// Does `tell`, unless that has to wait for a reader who does not read: then the program ends without it.
fn tell_in_time(tell: impl FnOnce() + Send + 'static) {
    let (done, wait) = std::sync::mpsc::channel();
    let told = move || {
        tell();
        done.send(())
    };
    if std::thread::Builder::new().spawn(told).is_ok() {
        // In either case the program ends now.
        let _ = wait.recv_timeout(std::time::Duration::from_millis(500));
    }
}

/// A mapped file that another program cuts short is an error with a sentence, not the end by SIGBUS.
#[cfg(unix)]
fn say_what_was_cut() {
    use std::path::Path;

    fn cut(path: &Path) {
        loam::file::remove_temporaries();
        let failure = failure::Failure::from(loam_files::Error::Cut { path: path.into() });
        failure.report();
        // SAFETY: ends the process at once: what other threads are in the middle of must not be waited for here.
        unsafe { libc::_exit(i32::from(failure.code())) }
    }
    loam::file::on_cut(cut);
}

#[cfg(not(unix))]
fn say_what_was_cut() {}

/// A write beyond the limit of file sizes (`ulimit -f`) fails, as on a full disk, instead of ending the program.
#[cfg(unix)]
fn leave_limits_to_writes() {
    // SAFETY: no handler is installed, so nothing runs in one.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(not(unix))]
fn leave_limits_to_writes() {}
