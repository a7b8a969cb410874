//! The time that a run has: its deadline, and how long its parts take. What is yet to come is judged by the last of
//! its kind.

use embassy_time::Duration;

/// The deadline of a run, counted from its start, and the lengths of its parts: of work with the rests of its duty,
/// without pauses, which do not come again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deadline {
    /// When the run is to have ended; `None`: whenever it is done.
    pub limit: Option<Duration>,
    /// Length of the last step.
    pub step: Duration,
    /// Length of the last micro-batch, or batch of an evaluation: a run ends between two of them.
    pub batch: Duration,
    /// Length of the last evaluation.
    pub evaluation: Duration,
}

impl Deadline {
    /// Of a run whose parts have not been measured yet.
    pub fn new(limit: Option<Duration>) -> Self {
        let unknown = Duration::MIN;
        Self { limit, step: unknown, batch: unknown, evaluation: unknown }
    }

    /// Whether `more` can be done after `elapsed`, and then the evaluation at the end.
    pub fn allows(&self, elapsed: Duration, more: Duration) -> bool {
        let Some(limit) = self.limit else { return true };
        let spent = elapsed.as_micros().saturating_add(self.evaluation.as_micros());
        spent.saturating_add(more.as_micros()) < limit.as_micros()
    }

    /// Whether a batch of an evaluation can be done after `elapsed`.
    pub fn allows_evaluation_batch(&self, elapsed: Duration) -> bool {
        let end = elapsed.as_micros().saturating_add(self.batch.as_micros());
        self.limit.is_none_or(|limit| end < limit.as_micros())
    }

    /// When a run that waits within a batch must continue, to end that batch and for the evaluation at the end.
    pub fn latest_wait(&self) -> Option<Duration> {
        let reserve = self.batch.as_micros().saturating_add(self.evaluation.as_micros());
        Some(Duration::from_micros(self.limit?.as_micros().saturating_sub(reserve)))
    }
}
