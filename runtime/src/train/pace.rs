//! How fast a run goes: the part of the time that the device works, pauses, and what the application around it says of
//! battery and heat. Asked between submissions; nothing of it changes the adapter that comes out.

use embassy_time::{Duration, Instant, Timer};

use super::Control;
use crate::backend::Backend;
use crate::error::{Error, Result};

/// How often a paused run looks whether it may go on.
const LOOK: Duration = Duration::from_millis(20);
/// Work that is done at a time between two rests: less would only add waits.
const LEAST: Duration = Duration::from_millis(10);

/// What a run may do at this moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Condition {
    /// As fast as it was asked to.
    Run,
    /// This fraction of the time at most, above 0 and up to 1.
    Slow(f32),
    /// Nothing, with everything kept in memory, until the condition is another.
    Pause,
}

/// What the application knows of battery, temperature, a foreground task or the time of day. Polled between
/// submissions, so an answer must be at hand.
pub trait Conditions {
    /// What holds now.
    fn now(&mut self) -> Condition;
}

impl<F: FnMut() -> Condition> Conditions for F {
    fn now(&mut self) -> Condition {
        self()
    }
}

/// Rests between submissions.
pub struct Pace {
    duty: f32,
    control: Control,
    conditions: Option<Box<dyn Conditions>>,
    /// When the present stretch of work began.
    began: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { duty: 1.0, control: Control::new(), conditions: None, began: None }
    }
}

impl Pace {
    /// Works the fraction `duty` of the time, pauses when `control` or `conditions` say so.
    ///
    /// # Errors
    /// [`Error::Argument`] for a duty that is not above 0 and at most 1.
    pub fn new(duty: f32, control: Control, conditions: Option<Box<dyn Conditions>>) -> Result<Self> {
        if duty > 0.0 && duty <= 1.0 {
            return Ok(Self { duty, control, conditions, began: None });
        }
        Err(Error::Argument(format!("duty is {duty}, it must be above 0 and at most 1")))
    }

    /// Called behind each submission: waits as long as it takes.
    ///
    /// # Errors
    /// A device failure.
    pub async fn breathe(&mut self, backend: &mut dyn Backend) -> Result<()> {
        let mut duty = self.duty;
        let mut condition = self.condition();
        if condition == Condition::Pause {
            // What is submitted ends first: a paused run leaves the device alone.
            backend.settle()?;
            while condition == Condition::Pause && !self.control.is_cancelled() {
                Timer::after(LOOK).await;
                condition = self.condition();
            }
            self.began = None;
        }
        if let Condition::Slow(most) = condition {
            // A wrong answer of the application slows the run down, and does not stop it.
            duty = duty.min(most.clamp(0.01, 1.0));
        }
        if duty >= 1.0 {
            self.began = None;
            return Ok(());
        }
        let began = *self.began.get_or_insert_with(Instant::now);
        if began.elapsed() < LEAST {
            return Ok(());
        }
        backend.settle()?;
        let worked = began.elapsed().as_micros() as f64;
        self.rest(worked * f64::from((1.0 - duty) / duty)).await;
        self.began = Some(Instant::now());
        Ok(())
    }

    /// Waits for `micros`, unless the run is to end.
    async fn rest(&self, micros: f64) {
        let end = Instant::now() + Duration::from_micros(micros as u64);
        while Instant::now() < end && !self.control.is_cancelled() {
            Timer::at(end.min(Instant::now() + LOOK)).await;
        }
    }

    fn condition(&mut self) -> Condition {
        match &mut self.conditions {
            _ if self.control.is_paused() => Condition::Pause,
            Some(conditions) => conditions.now(),
            None => Condition::Run,
        }
    }
}
