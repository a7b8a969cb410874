//! What an objective is asked for.

use super::Objective;

/// An objective and its options.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ObjectiveOptions {
    /// What is learned.
    pub objective: &'static Objective,
}
