//! How much memory a run takes, and options that fit into a budget.

mod budget;
mod prediction;

pub use budget::fit;
pub(super) use budget::keep;
pub use prediction::{MemoryPlan, Scope, plan};
