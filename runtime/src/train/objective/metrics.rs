//! What a step or an evaluation is measured by.

/// A number that an objective reports, by the name that TRL gives it where it has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// E.g. `rewards/margins`.
    pub name: &'static str,
    /// A mean over labels or over records, see [`super::Unit`].
    pub value: f64,
}

/// The loss, and what else an objective reports.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    /// The objective's loss.
    pub loss: f64,
    /// The others, in the objective's order.
    pub others: Vec<Metric>,
}

impl Metrics {
    /// Only a loss.
    pub fn of_loss(loss: f64) -> Self {
        Self { loss, others: Vec::new() }
    }
}
