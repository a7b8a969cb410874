//! The loop: evaluate, train step by step, evaluate again, describe the adapter; what it tells, and what it remembers.

mod around;
mod control;
mod describe;
mod driver;
mod event;
mod history;
mod progress;
mod stopping;
mod task;
mod upkeep;

pub use around::check;
pub use control::Control;
pub use driver::{run, run_with};
pub use event::{Event, Outcome, Why};
pub use history::History;
pub use progress::Progress;
pub use stopping::{Best, Keep, Stopping};
pub use upkeep::Upkeep;
