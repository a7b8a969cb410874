//! What surrounds a training run: checkpoints, pace, and signals that stop or pause it.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use embassy_time::Duration;
use loam::backend::TARGET;
use loam::train::{Checkpoints, Condition, Control, Upkeep};

use crate::args::{DeviceArgs, UpkeepArgs};
use crate::model;

/// Steps between two checkpoints unless a flag says otherwise.
const EVERY: u64 = 10;

/// The run that signals stop, if one is under way that can be gone on with.
static UNDER_WAY: Mutex<Option<Control>> = Mutex::new(None);

/// Whether a signal has paused the run.
static PAUSED: AtomicBool = AtomicBool::new(false);

/// Longest submission in foreground mode: half a frame.
const FOREGROUND: Duration = Duration::from_millis(8);

/// While this lives, the first signal stops the run instead of the program.
pub struct Signals(());

/// What the flags ask for, with signals led to the run.
pub fn of(args: &UpkeepArgs, device: &DeviceArgs) -> (Upkeep, Signals) {
    let control = Control::new();
    let checkpoints = args.checkpoint_dir.as_ref().map(|folder| Checkpoints {
        folder: folder.clone(),
        every: args.checkpoint_every.map_or(EVERY, u64::from),
        resume: args.resume,
    });
    // A run without checkpoints ends at once: there is nothing to wait for.
    lead(checkpoints.as_ref().map(|_| control.clone()));
    pause_on_signals();
    let device = device.clone();
    let upkeep = Upkeep {
        checkpoints,
        control,
        duty: args.duty,
        target: if args.foreground { FOREGROUND } else { TARGET },
        deadline: args.deadline,
        conditions: Some(Box::new(|| if PAUSED.load(Ordering::SeqCst) { Condition::Pause } else { Condition::Run })),
        reopen: Some(Box::new(move || model::open(&device))),
    };
    (upkeep, Signals(()))
}

/// SIGUSR1 pauses a run with everything in memory, SIGUSR2 lets it go on.
#[cfg(unix)]
fn pause_on_signals() {
    extern "C" fn pause(signal: libc::c_int) {
        PAUSED.store(signal == libc::SIGUSR1, Ordering::SeqCst);
    }
    let handler = pause as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
        unsafe { libc::signal(signal, handler) };
    }
}

#[cfg(not(unix))]
fn pause_on_signals() {}

impl Drop for Signals {
    fn drop(&mut self) {
        lead(None);
    }
}

fn lead(control: Option<Control>) {
    *UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner) = control;
}

/// Whether a run is under way that now stops by itself. The second signal is not for it.
pub fn stop() -> bool {
    let under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    match &*under_way {
        Some(control) if !control.is_cancelled() => {
            control.cancel();
            // A closed standard error is no reason not to stop.
            let _ = writeln!(std::io::stderr().lock(), "stopping after this micro-batch, with a checkpoint");
            true
        }
        _ => false,
    }
}
