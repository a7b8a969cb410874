//! How much memory a run takes, and options that fit into a budget.

mod budget;
mod prediction;
mod rehearsal;

pub use budget::fit;
pub(super) use budget::{check_room, keep};
pub use prediction::{MemoryPlan, Scope, plan};
