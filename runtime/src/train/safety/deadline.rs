//! The time that a run has: its deadline, and how long its parts take. What is yet to come is judged by the last of its kind.

use embassy_time::{Duration, Instant};

/// The time of a run. Lengths are of work with the rests of its duty, without pauses: those do not come again.
pub(in crate::train) struct Clock {
    begun: Instant,
    deadline: Option<Duration>,
    /// Length of the last step.
    pub step: Duration,
    /// Length of the last micro-batch, or batch of an evaluation: a run ends between two of them.
    pub batch: Duration,
    /// Length of the last evaluation.
    pub evaluation: Duration,
}

impl Clock {
    /// A run that begins now.
    pub fn new(deadline: Option<Duration>) -> Self {
        let none = Duration::MIN;
        Self { begun: Instant::now(), deadline, step: none, batch: none, evaluation: none }
    }

    /// Whether `more` can be done before the deadline, and then the evaluation at the end.
    pub fn allows(&self, more: Duration) -> bool {
        let Some(deadline) = self.deadline else { return true };
        let spent = self.begun.elapsed().as_micros().saturating_add(self.evaluation.as_micros());
        spent.saturating_add(more.as_micros()) < deadline.as_micros()
    }

    /// Whether a batch of an evaluation can be done before the deadline.
    pub fn allows_batch(&self) -> bool {
        self.deadline.is_none_or(|deadline| {
            self.begun.elapsed().as_micros().saturating_add(self.batch.as_micros()) < deadline.as_micros()
        })
    }

    /// When a run that waits in the midst of a batch must go on, to end that batch and for the evaluation at the end.
    pub fn latest(&self) -> Option<Instant> {
        let reserve = self.batch.as_micros().saturating_add(self.evaluation.as_micros());
        let left = Duration::from_micros(self.deadline?.as_micros().saturating_sub(reserve));
        // So far away that no clock can say it: never.
        self.begun.checked_add(left)
    }
}
