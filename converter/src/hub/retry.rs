//! Bounded repetition: waits that double, and an end.

use std::time::Duration;

use super::client::Failure;
use super::{Event, Pace};
use crate::Result;

/// Longest wait that a server may ask for.
const LONGEST: Duration = Duration::from_secs(120);

/// How often something failed in a row.
#[derive(Debug)]
pub struct Patience<'a> {
    pace: &'a Pace,
    failures: u32,
}

impl<'a> Patience<'a> {
    /// Nothing failed yet.
    pub fn new(pace: &'a Pace) -> Self {
        Patience { pace, failures: 0 }
    }

    /// Something went well in between.
    pub fn restore(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// The failure, if it is final or there were too many.
    pub fn wait(&mut self, failure: Failure, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let (error, after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Again(error, after) => (error, after),
        };
        // A server that wants to be left alone for longer is not asked again.
        if self.failures >= self.pace.retries || after.is_some_and(|after| after > LONGEST) {
            return Err(error);
        }
        let wait = after.unwrap_or_else(|| self.pace.backoff.saturating_mul(1 << self.failures.min(10))).min(LONGEST);
        self.failures += 1;
        on_event(Event::Retry { problem: error.to_string(), wait });
        std::thread::sleep(wait);
        Ok(())
    }

    /// Repeats `attempt` until it succeeds.
    ///
    /// # Errors
    /// As [`Patience::wait`].
    pub fn run<T>(
        &mut self,
        on_event: &mut dyn FnMut(Event<'_>),
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T> {
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(failure) => self.wait(failure, on_event)?,
            }
        }
    }
}
