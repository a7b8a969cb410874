//! What lets a run stop anywhere and go on: checkpoints, recovery of a lost device, a throttle, a deadline.

pub mod checkpoint;
mod deadline;
mod recovery;
mod throttle;

pub(super) use deadline::Clock;
pub use recovery::Reopen;
pub(super) use recovery::Rescue;
pub use throttle::{Condition, Conditions, Pace};
