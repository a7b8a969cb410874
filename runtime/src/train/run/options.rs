//! How a run goes, besides what it learns.

use embassy_time::Duration;

use super::Control;
use crate::train::{Checkpoints, Conditions, Reopen};

/// How a run goes: where it is kept, who steers it, how fast it goes. Nothing in it changes the adapter that comes
/// out, but for a deadline, which may end the run before its last step.
pub struct RunOptions {
    /// Where the run keeps its checkpoints, if it does.
    pub checkpoints: Option<Checkpoints>,
    /// Pauses and stops it.
    pub control: Control,
    /// The fraction of the time that the device works, above 0 and up to 1.
    pub duty: f32,
    /// When the run is to have ended: it stops in time for its last evaluation, keeps a checkpoint if it has a folder,
    /// and returns what is there.
    pub deadline: Option<Duration>,
    /// What the application knows of battery and heat.
    pub conditions: Option<Box<dyn Conditions>>,
    /// Opens the device again when it is lost, or has not enough memory. Without this both end the run.
    pub reopen: Option<Reopen>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { checkpoints: None, control: Control::new(), duty: 1.0, deadline: None, conditions: None, reopen: None }
    }
}
