//! What surrounds a training run: checkpoints, pace, and signals that stop or pause it.

use std::io::Write;
use std::num::NonZeroU64;
use std::sync::{Mutex, OnceLock, PoisonError};

use embassy_time::Duration;
use loam::backend::TARGET;
use loam::train::{Checkpoints, Control, RunOptions};

use crate::args::{DeviceArgs, UpkeepArgs};
use crate::model;

/// Steps between two checkpoints unless a flag says otherwise.
pub const EVERY: NonZeroU64 = NonZeroU64::new(10).unwrap();

/// A run that is under way.
enum UnderWay {
    /// One that can be continued: a signal stops it.
    Kept(Control),
    /// One that a signal ends with all it did.
    Lost,
}

/// The run that is under way, if there is one.
static UNDER_WAY: Mutex<Option<UnderWay>> = Mutex::new(None);

/// What signals pause, from the start of the program on.
static PAUSES: OnceLock<Control> = OnceLock::new();

/// Longest submission in foreground mode: half a frame.
const FOREGROUND: Duration = Duration::from_millis(8);

/// While this lives, the first signal stops the run instead of the program.
pub struct Signals(());

/// Where the run is kept, if it is.
pub fn checkpoints(args: &UpkeepArgs) -> Option<Checkpoints> {
    let every = args.checkpoint_every.and_then(|steps| NonZeroU64::new(u64::from(steps))).unwrap_or(EVERY);
    let folder = args.checkpoint_dir.as_ref()?.clone();
    Some(Checkpoints { folder, every, resume: args.resume })
}

/// How long a submission of the run may take.
pub fn target(args: &UpkeepArgs) -> Duration {
    if args.foreground { FOREGROUND } else { TARGET }
}

/// What the flags ask for, with signals led to the run, after `spent` of the deadline's time.
pub fn from_args(args: &UpkeepArgs, device: &DeviceArgs, spent: std::time::Duration) -> (RunOptions, Signals) {
    let control = PAUSES.get_or_init(Control::new).clone();
    let spent = Duration::from_micros(spent.as_micros() as u64);
    let checkpoints = checkpoints(args);
    // A run without checkpoints ends at once: there is nothing to wait for.
    lead(Some(if checkpoints.is_some() { UnderWay::Kept(control.clone()) } else { UnderWay::Lost }));
    let (device, target) = (device.clone(), target(args));
    let options = RunOptions {
        checkpoints,
        control,
        duty: args.duty,
        deadline: args.deadline.map(|deadline| deadline.checked_sub(spent).unwrap_or(Duration::MIN)),
        conditions: None,
        reopen: Some(Box::new(move || model::device(&device, target))),
    };
    (options, Signals(()))
}

/// From now on SIGUSR1 pauses the run with everything in memory, also one that has yet to begin; SIGUSR2 continues it.
#[cfg(unix)]
pub fn pause_on_signals() {
    extern "C" fn pause(signal: libc::c_int) {
        match PAUSES.get() {
            Some(control) if signal == libc::SIGUSR1 => control.pause(),
            Some(control) => control.resume(),
            None => {}
        }
    }
    PAUSES.get_or_init(Control::new);
    let handler = pause as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: the handler only reads and exchanges atomics, which is allowed in a signal handler: what they are in
        // was made above.
        unsafe { libc::signal(signal, handler) };
    }
}

#[cfg(not(unix))]
pub fn pause_on_signals() {}

impl Drop for Signals {
    fn drop(&mut self) {
        lead(None);
    }
}

fn lead(run: Option<UnderWay>) {
    *UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner) = run;
}

/// Whether a run is under way that now stops by itself. The second signal is not for it.
pub fn stop() -> bool {
    let under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    match &*under_way {
        Some(UnderWay::Kept(control)) if !control.is_cancelled() => {
            control.cancel();
            // A closed standard error is no reason not to stop.
            let _ = writeln!(std::io::stderr().lock(), "stopping after this micro-batch, with a checkpoint");
            true
        }
        Some(UnderWay::Lost) => {
            let told = "stopped: nothing of the training was kept; with --checkpoint-dir DIR it can be continued";
            let _ = writeln!(std::io::stderr().lock(), "{told}");
            false
        }
        _ => false,
    }
}
