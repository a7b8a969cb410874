//! What surrounds a training run: checkpoints, and signals that stop it.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use loam::train::{Checkpoints, Control, Upkeep};

use crate::args::UpkeepArgs;

/// Steps between two checkpoints unless a flag says otherwise.
const EVERY: u64 = 10;

/// The run that signals stop, if one is under way that can be gone on with.
static UNDER_WAY: Mutex<Option<Control>> = Mutex::new(None);

/// While this lives, the first signal stops the run instead of the program.
pub struct Signals(());

/// What the flags ask for, with signals led to the run.
pub fn of(args: &UpkeepArgs) -> (Upkeep, Signals) {
    let control = Control::new();
    let checkpoints = args.checkpoint_dir.as_ref().map(|folder| Checkpoints {
        folder: folder.clone(),
        every: args.checkpoint_every.map_or(EVERY, u64::from),
        resume: args.resume,
    });
    // A run without checkpoints ends at once: there is nothing to wait for.
    lead(checkpoints.as_ref().map(|_| control.clone()));
    (Upkeep { checkpoints, control }, Signals(()))
}

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
