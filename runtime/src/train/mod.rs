//! Training: options, the learning-rate schedule, one optimizer step, and the loop around it.

mod describe;
mod options;
mod run;
mod schedule;
mod trainer;

pub use options::TrainOptions;
pub use run::{Event, Outcome, run};
pub use schedule::Schedule;
pub use trainer::{StepReport, Trainer};
