//! What lets a run stop anywhere and continue: checkpoints, recovery of a lost device, a throttle, a deadline.

pub mod checkpoint;
mod deadline;
mod recovery;
mod throttle;

pub(in crate::train) use deadline::Deadline;
pub(in crate::train) use recovery::Recovery;
pub use recovery::Reopen;
pub(in crate::train) use throttle::Throttle;
pub use throttle::{Condition, Conditions};
