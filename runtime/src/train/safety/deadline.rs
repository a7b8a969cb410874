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
    /// Length of measuring the general text.
    pub general: Duration,
}

impl Deadline {
    /// Of a run whose parts have not been measured yet.
    pub fn new(limit: Option<Duration>) -> Self {
        let unknown = Duration::MIN;
        Self { limit, step: unknown, batch: unknown, evaluation: unknown, general: unknown }
    }

    /// Whether `more` can be done after `elapsed`, and then the evaluation at the end.
    pub fn allows(&self, elapsed: Duration, more: Duration) -> bool {
        let Some(limit) = self.limit else { return true };
        let spent = elapsed.as_micros().saturating_add(self.ending());
        spent.saturating_add(more.as_micros()) < limit.as_micros()
    }

    /// Microseconds of what is measured in the end.
    fn ending(&self) -> u64 {
        self.evaluation.as_micros().saturating_add(self.general.as_micros())
    }

    /// How many more steps there is time for after `elapsed`, if they take as long as those up to now: `done` in
    /// `worked`. `None`: as many as there are.
    pub fn steps_left(&self, elapsed: Duration, done: u64, worked: Duration) -> Option<u64> {
        let left = self.limit?.as_micros().saturating_sub(elapsed.as_micros()).saturating_sub(self.ending());
        let steps = u128::from(left) * u128::from(done) / u128::from(worked.as_micros().max(1));
        Some(u64::try_from(steps).unwrap_or(u64::MAX))
    }

    /// Whether a batch of an evaluation can be done after `elapsed`.
    pub fn allows_evaluation_batch(&self, elapsed: Duration) -> bool {
        let end = elapsed.as_micros().saturating_add(self.batch.as_micros());
        self.limit.is_none_or(|limit| end < limit.as_micros())
    }

    /// Whether the general text, which is measured twice, has taken a fortieth of the time once.
    pub fn is_too_long_for_general(&self, length: Duration) -> bool {
        self.limit.is_some_and(|limit| length.as_micros() > limit.as_micros() / 40)
    }

    /// When a run that waits within a batch must continue, to end that batch and for the evaluation at the end.
    pub fn latest_wait(&self) -> Option<Duration> {
        let reserve = self.batch.as_micros().saturating_add(self.ending());
        Some(Duration::from_micros(self.limit?.as_micros().saturating_sub(reserve)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_left_are_judged_by_those_that_are_done() {
        let seconds = Duration::from_secs;
        let deadline = Deadline { evaluation: seconds(3), general: seconds(1), ..Deadline::new(Some(seconds(30))) };
        assert_eq!(deadline.steps_left(seconds(10), 4, seconds(8)), Some(8));
        assert_eq!(deadline.steps_left(seconds(29), 4, seconds(8)), Some(0));
        assert_eq!(Deadline::new(None).steps_left(seconds(10), 4, seconds(8)), None);
    }

    #[test]
    fn a_general_text_takes_a_fortieth_of_the_time_each_time() {
        let (second, deadline) = (Duration::from_secs(1), Deadline::new(Some(Duration::from_secs(36))));
        assert!(deadline.is_too_long_for_general(second) && !deadline.is_too_long_for_general(Duration::MIN));
        assert!(!Deadline::new(None).is_too_long_for_general(second));
    }
}
