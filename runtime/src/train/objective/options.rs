//! What an objective is asked for.

use super::{Objective, SFT};

/// An objective and its options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObjectiveOptions {
    /// What is learned.
    pub objective: &'static Objective,
}

impl Default for ObjectiveOptions {
    fn default() -> Self {
        Self { objective: &SFT }
    }
}
