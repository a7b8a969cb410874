//! One optimizer step: micro-batches forward and backward, the update, the learning rate.

mod optimizer;
mod schedule;
mod trainer;

pub use optimizer::Optimizer;
pub use schedule::Schedule;
pub use trainer::{MicroBatch, Pass, StepReport, Trainer};
