//! Training: options, the learning-rate schedule, one optimizer step, the loop around it, and what lets that loop stop
//! anywhere and go on.

mod around;
mod budget;
pub mod checkpoint;
mod clock;
mod control;
mod describe;
mod event;
mod flags;
mod history;
mod optimizer;
mod options;
mod pace;
mod plan;
mod progress;
mod rescue;
mod run;
mod schedule;
mod stopping;
mod task;
mod trainer;
mod upkeep;

pub use around::check;
pub use budget::fit;
pub use checkpoint::Checkpoints;
pub use control::Control;
pub use event::{Event, Outcome, Why};
pub use history::History;
pub use optimizer::Optimizer;
pub use options::TrainOptions;
pub use pace::{Condition, Conditions, Pace};
pub use plan::{MemoryPlan, Scope, plan};
pub use progress::Progress;
pub use rescue::Reopen;
pub use run::{run, run_with};
pub use schedule::Schedule;
pub use stopping::{Best, Keep, Stopping};
pub use trainer::{StepReport, Trainer};
pub use upkeep::Upkeep;
