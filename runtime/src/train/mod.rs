//! Training: options, one optimizer step (`step`), the loop around it (`run`), what is learned (`objective`), what lets that loop stop anywhere and go on
//! (`safety`), and how much memory it takes (`memory`).

mod fields;
mod memory;
pub mod objective;
mod options;
mod run;
mod safety;
mod step;

pub use memory::{MemoryPlan, Scope, fit, plan};
pub use objective::{Objective, ObjectiveOptions};
pub use options::TrainOptions;
pub use run::{Best, Control, Event, History, Keep, Outcome, Progress, Stopping, Upkeep, Why, check, run, run_with};
pub use safety::checkpoint::{self, Checkpoints};
pub use safety::{Condition, Conditions, Pace, Reopen};
pub use step::{Optimizer, Schedule, StepReport, Trainer};
