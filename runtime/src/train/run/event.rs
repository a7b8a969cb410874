//! What a run reports while it lasts, and what it returns.

use std::path::PathBuf;

use super::History;
use crate::adapter::AdapterFile;
use crate::backend::Times;
use crate::train::objective::{Metric, Metrics};
use crate::train::{MemoryPlan, StepReport};

/// What happens in a run, for progress displays and logs.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The plans are compiled.
    Start {
        /// Optimizer steps of the run.
        steps: u64,
        /// Parameters of the adapter.
        parameters: usize,
        /// The memory of the whole run as it was predicted, and what was chosen for it.
        memory: MemoryPlan,
    },
    /// The run continues from a checkpoint.
    Resumed {
        /// Steps done.
        step: u64,
        /// Whether the evaluation after that step is done, too.
        evaluated: bool,
        /// The checkpoint.
        path: PathBuf,
        /// What happened up to there.
        history: Box<History>,
    },
    /// The held-out loss was measured after `step` steps.
    Evaluated {
        /// Steps done.
        step: u64,
        /// The objective's loss and metrics, after a step maybe NaN or infinite.
        metrics: Metrics,
        /// Whether the loss is the lowest loss after a step so far, and not higher than before the first one.
        best: bool,
    },
    /// A step is done.
    Step {
        /// Number of the step, from 1.
        step: u64,
        /// What it did.
        report: StepReport,
        /// Seconds since the first step began.
        seconds: f64,
    },
    /// A checkpoint is safe on the disk.
    Saved {
        /// Steps done.
        step: u64,
        /// The checkpoint.
        path: PathBuf,
    },
    /// The run waits, with everything in memory and the device idle.
    Paused {
        /// Steps done.
        step: u64,
        /// Who wants it.
        why: Why,
    },
    /// The run does not wait any more.
    Continued {
        /// Steps done.
        step: u64,
        /// What has ended the pause.
        why: Why,
        /// Length of the pause.
        seconds: f64,
    },
    /// The run ends with an error because of what came out, and this is that: for who wants it all the same.
    Refused {
        /// The adapter.
        adapter: Box<AdapterFile>,
        /// What is known of it.
        outcome: Box<Outcome>,
    },
    /// Something that a user should know, and that does not end the run: a checkpoint that is damaged or could not be
    /// written, a device that had to be opened again.
    Note {
        /// What.
        message: String,
    },
}

/// Where events go. Steps and evaluations that are repeated after a device was lost are reported once.
pub struct Events<'a> {
    sink: &'a mut dyn FnMut(&Event),
    /// The last step that was reported.
    step: u64,
    /// The step of the last evaluation that was reported.
    evaluation: Option<u64>,
}

impl<'a> Events<'a> {
    /// Events go to `sink`.
    pub fn new(sink: &'a mut dyn FnMut(&Event)) -> Self {
        Self { sink, step: 0, evaluation: None }
    }

    /// Reports an event, unless it was reported before.
    pub fn send(&mut self, event: Event) {
        match event {
            Event::Step { step, .. } if step <= self.step => return,
            Event::Step { step, .. } => self.step = step,
            Event::Evaluated { step, .. } if self.evaluation.is_some_and(|last| step <= last) => return,
            Event::Evaluated { step, .. } => self.evaluation = Some(step),
            Event::Resumed { step, evaluated, .. } => {
                self.step = step;
                self.evaluation = if evaluated { Some(step) } else { step.checked_sub(1) };
            }
            _ => {}
        }
        (self.sink)(&event);
    }

    /// Reports something that a user should know.
    pub fn note(&mut self, message: String) {
        self.send(Event::Note { message });
    }
}

/// What begins or ends a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// [`Control`](super::Control): somebody asked for it.
    Asked,
    /// [`Conditions`](crate::train::Conditions): battery, heat, whatever the application watches.
    Conditions,
    /// The deadline is near.
    Deadline,
    /// The run was stopped.
    Stopped,
}

impl Why {
    /// In one word, for events.
    pub fn name(self) -> &'static str {
        match self {
            Why::Asked => "asked",
            Why::Conditions => "conditions",
            Why::Deadline => "deadline",
            Why::Stopped => "stopped",
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Optimizer steps.
    pub steps: u64,
    /// Steps that were skipped because their gradient was not finite.
    pub skipped: u64,
    /// Tokens seen, without padding.
    pub tokens: u64,
    /// Tokens with a loss.
    pub trained_tokens: u64,
    /// Seconds in training steps by the clock on the wall, evaluation not counted.
    pub seconds: f64,
    /// How many of these passed in pauses and in the rests of a duty.
    pub paused_seconds: f64,
    /// Loss of the first step.
    pub loss_first: f64,
    /// Loss of the last step.
    pub loss_last: f64,
    /// Held-out loss before training, if there is held-out data.
    pub eval_loss_before: Option<f64>,
    /// Held-out loss of the adapter that came out.
    pub eval_loss_after: Option<f64>,
    /// Loss of a general text before training, in nats per token, where the run is long enough to measure it.
    pub general_loss_before: Option<f64>,
    /// The same with the adapter that came out: higher where the model has forgotten.
    pub general_loss_after: Option<f64>,
    /// Tokens of that text.
    pub general_tokens: u64,
    /// Loss on the rows of the last step with what the run started from, without held-out data.
    pub rows_loss_before: Option<f64>,
    /// Loss on the same rows with the adapter that came out.
    pub rows_loss_after: Option<f64>,
    /// The number of steps with the lowest held-out loss, if there is held-out data.
    pub best_step: Option<u64>,
    /// The number of steps after which the adapter that came out stood as it is.
    pub adapter_step: u64,
    /// Whether the run ended because the held-out loss did not fall any more.
    pub stopped_early: bool,
    /// Peak of all buffers on the device.
    pub peak_device_bytes: u64,
    /// Steps that the run was to have: more than `steps` if a deadline ended it.
    pub planned_steps: u64,
    /// How long submissions to the device took, where that is measured.
    pub times: Option<Times>,
    /// What the objective reports besides the loss, of the last step.
    pub metrics_last: Vec<Metric>,
    /// The same of the held-out data, before training and of the adapter that came out.
    pub eval_metrics_before: Vec<Metric>,
    /// See [`Self::eval_metrics_before`].
    pub eval_metrics_after: Vec<Metric>,
}

impl Outcome {
    /// Counts a step.
    pub(super) fn count(&mut self, report: &StepReport) {
        if self.steps == 0 {
            self.loss_first = report.metrics.loss;
        }
        self.loss_last = report.metrics.loss;
        self.steps += 1;
        self.skipped += u64::from(!report.grad_norm.is_finite());
        self.tokens += report.tokens as u64;
        self.trained_tokens += report.trained_tokens as u64;
    }

    /// Tokens (without padding) per second of work in training steps: pauses and rests are not counted.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / (self.seconds - self.paused_seconds).max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluated(step: u64) -> Event {
        Event::Evaluated { step, metrics: Metrics::default(), best: false }
    }

    #[test]
    fn evaluations_are_reported_once() {
        let mut seen = Vec::new();
        let mut sink = |event: &Event| seen.push(event.clone());
        let mut events = Events::new(&mut sink);
        for step in [0, 2, 0, 2, 4] {
            events.send(evaluated(step));
        }
        assert_eq!(seen, [evaluated(0), evaluated(2), evaluated(4)]);
    }

    #[test]
    fn what_was_reported_before_a_checkpoint_is_not_reported_again() {
        for (is_evaluated, expected) in [(false, 2), (true, 1)] {
            let mut seen = 0;
            let mut sink = |_: &Event| seen += 1;
            let mut events = Events::new(&mut sink);
            let history = Box::default();
            events.send(Event::Resumed { step: 3, evaluated: is_evaluated, path: PathBuf::new(), history });
            events.send(evaluated(3));
            assert_eq!(seen, expected);
        }
    }
}
