//! Training: options, one optimizer step (`step`), what is learned (`objective`), the loop around it (`run`), what
//! lets that loop stop anywhere and continue (`safety`), and how much memory it takes (`memory`).

mod fields;
mod memory;
pub mod objective;
mod options;
mod run;
mod safety;
mod step;
mod suited;

pub use memory::{MemoryPlan, Scope, fit, plan};
pub use objective::{Objective, ObjectiveOptions};
pub use options::TrainOptions;
pub use run::{
    Best, Control, EarlyStopping, Event, History, Job, Keep, Outcome, Progress, RunOptions, Why, check, run,
};
pub use safety::checkpoint::{self, Checkpoints};
pub use safety::{Condition, Conditions, Reopen};
pub use step::{MicroBatch, Optimizer, Pass, Schedule, StepReport, Trainer};
pub use suited::{Asked, Suited};
