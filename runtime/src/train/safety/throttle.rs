//! How fast a run goes: the part of the time that the device works, pauses, and what the application around it says of
//! battery and heat. Asked between submissions; nothing of it changes the adapter that comes out.

use embassy_time::{Duration, Instant, Timer};

use crate::backend::Backend;
use crate::error::Result;
use crate::option::OptionError;
use crate::train::run::{Control, Event, Events, Why};

/// How often a paused run looks whether it may continue.
const LOOK: Duration = Duration::from_millis(20);
/// Work that is done at a time between two rests: less would only add waits.
const LEAST: Duration = Duration::from_millis(10);

/// Longest rest in microseconds, a year: a clock cannot count what the smallest duty asks for.
const LONGEST: f64 = 365.0 * 86_400e6;

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

/// Rests and pauses between submissions.
pub struct Throttle {
    duty: f32,
    control: Control,
    conditions: Option<Box<dyn Conditions>>,
    /// When the present stretch of work began.
    working_since: Option<Instant>,
    /// How long all pauses and all rests were.
    paused: Duration,
    rested: Duration,
    /// From then on the run does not wait any more: it has to end.
    pub until: Option<Instant>,
    /// Steps done, for events.
    pub step: u64,
}

impl Throttle {
    /// Works the fraction `duty` of the time, pauses when `control` or `conditions` say so.
    ///
    /// # Errors
    /// [`OptionError`] for a duty that is not above 0 and at most 1.
    pub fn new(duty: f32, control: Control, conditions: Option<Box<dyn Conditions>>) -> Result<Self> {
        if !(duty > 0.0 && duty <= 1.0) {
            return Err(OptionError::range("duty", duty, "above 0 and at most 1").into());
        }
        let (paused, rested) = (Duration::MIN, Duration::MIN);
        Ok(Self { duty, control, conditions, working_since: None, paused, rested, until: None, step: 0 })
    }

    /// How long all pauses were so far.
    pub fn paused(&self) -> Duration {
        self.paused
    }

    /// How long all pauses and all rests were so far.
    pub fn waited(&self) -> Duration {
        self.paused + self.rested
    }

    /// Called after each submission: waits as long as it takes.
    ///
    /// # Errors
    /// A device failure.
    pub async fn rest(&mut self, backend: &mut dyn Backend, events: &mut Events<'_>) -> Result<()> {
        let mut duty = self.duty;
        if let Condition::Slow(most) = self.hold(backend, events).await? {
            // A wrong answer of the application slows the run down, and does not stop it.
            duty = duty.min(most.clamp(0.01, 1.0));
        }
        if duty >= 1.0 || self.is_ending() {
            self.working_since = None;
            return Ok(());
        }
        let began = *self.working_since.get_or_insert_with(Instant::now);
        if began.elapsed() < LEAST {
            return Ok(());
        }
        backend.settle().await?;
        let worked = began.elapsed().as_micros() as f64;
        self.sleep(worked * f64::from((1.0 - duty) / duty)).await;
        self.working_since = Some(Instant::now());
        Ok(())
    }

    /// Waits while the run is paused, and reports it. Returns the condition that holds then.
    ///
    /// # Errors
    /// A device failure.
    pub async fn hold(&mut self, backend: &mut dyn Backend, events: &mut Events<'_>) -> Result<Condition> {
        let (mut condition, mut why) = self.condition();
        if condition != Condition::Pause || self.is_ending() {
            return Ok(condition);
        }
        // What is submitted ends first: a paused run leaves the device alone.
        backend.settle().await?;
        let began = Instant::now();
        events.send(Event::Paused { step: self.step, why });
        while condition == Condition::Pause && !self.is_ending() {
            Timer::after(LOOK).await;
            let now = self.condition();
            (condition, why) = (now.0, if now.0 == Condition::Pause { now.1 } else { why });
        }
        if self.control.is_cancelled() {
            why = Why::Stopped;
        } else if condition == Condition::Pause {
            why = Why::Deadline;
        }
        let length = began.elapsed();
        self.paused += length;
        self.working_since = None;
        events.send(Event::Continued { step: self.step, why, seconds: length.as_micros() as f64 / 1e6 });
        Ok(condition)
    }

    /// Waits for `micros`, unless the run is to end.
    async fn sleep(&mut self, micros: f64) {
        let began = Instant::now();
        let end = began + Duration::from_micros(micros.min(LONGEST) as u64);
        while Instant::now() < end && !self.is_ending() {
            Timer::at(end.min(Instant::now() + LOOK)).await;
        }
        self.rested += began.elapsed();
    }

    /// Whether the run is to end: then it does not wait any more.
    fn is_ending(&self) -> bool {
        self.control.is_cancelled() || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// What holds now, and who says so.
    fn condition(&mut self) -> (Condition, Why) {
        match &mut self.conditions {
            _ if self.control.is_paused() => (Condition::Pause, Why::Asked),
            Some(conditions) => (conditions.now(), Why::Conditions),
            None => (Condition::Run, Why::Asked),
        }
    }
}
