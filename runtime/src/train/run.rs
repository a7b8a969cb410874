//! The loop: evaluate, train step by step, evaluate again, describe the adapter.

use embassy_time::Instant;

use super::describe::describe;
use super::{StepReport, TrainOptions, Trainer};
use crate::adapter::AdapterFile;
use crate::backend::Backend;
use crate::base::Base;
use crate::data::{Batch, Batches, Dataset};
use crate::error::{Error, Result};

/// Steps with a gradient that is not finite after which a run ends: one can be an accident, these are not.
const GIVE_UP: u32 = 5;

/// What happens while a run goes on, for progress displays and logs.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The plans are compiled.
    Start {
        /// Optimizer steps of the run.
        steps: u64,
        /// Parameters of the adapter.
        parameters: usize,
        /// Bytes that the training plan and its buffers take on the device, base weights not counted.
        planned_bytes: u64,
    },
    /// The held-out loss was measured after `step` steps.
    Evaluated {
        /// Steps done.
        step: u64,
        /// Mean loss in nats per trained token.
        loss: f64,
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
    /// Seconds in training steps, evaluation not counted.
    pub seconds: f64,
    /// Loss of the first step.
    pub loss_first: f64,
    /// Loss of the last step.
    pub loss_last: f64,
    /// Held-out loss before training, if there is held-out data.
    pub eval_loss_before: Option<f64>,
    /// Held-out loss after training.
    pub eval_loss_after: Option<f64>,
    /// Peak of all buffers on the device.
    pub peak_device_bytes: u64,
}

/// Trains an adapter on `data`; `held_out` is only measured. Starts from `adapter` or from a new one.
///
/// # Errors
/// Options or data that allow no training, a device failure, or an adapter that ends with values that are not finite.
pub async fn run(
    base: &Base,
    backend: Box<dyn Backend>,
    adapter: Option<AdapterFile>,
    (data, held_out): (&Dataset, Option<&Dataset>),
    options: TrainOptions,
    on_event: &mut dyn FnMut(&Event),
) -> Result<(AdapterFile, Outcome)> {
    let batches = Batches::new(&data.examples, options.batches())?;
    let steps = options.steps.unwrap_or(options.epochs.saturating_mul(batches.steps_per_epoch() as u64));
    let mut trainer = Trainer::new(base, backend, adapter, options)?;
    let (batch, context) = (trainer.options().batch, trainer.options().context);
    let held_out = held_out.map(|data| data.in_order(batch, context)).transpose()?;
    let (parameters, planned_bytes) = (trainer.parameters(), trainer.planned_bytes());
    on_event(&Event::Start { steps, parameters, planned_bytes });
    let eval_loss_before = evaluate(&mut trainer, held_out.as_deref(), 0, on_event).await?;
    let mut outcome = Outcome { eval_loss_before, ..Outcome::default() };
    let mut in_a_row = 0;
    for step in 1..=steps {
        let micro = batches.step(step as usize - 1)?.micro;
        let began = Instant::now();
        let options = trainer.options();
        let lr = options.lr * options.schedule.factor(step, options.warmup, steps);
        let every = options.eval_every;
        let report = trainer.step(&micro, lr).await?;
        outcome.count(&report, began.elapsed().as_micros() as f64 / 1e6);
        on_event(&Event::Step { step, report, seconds: outcome.seconds });
        in_a_row = if report.grad_norm.is_finite() { 0 } else { in_a_row + 1 };
        if in_a_row == GIVE_UP {
            return Err(Error::NonFinite(format!("the gradient of {GIVE_UP} steps in a row, up to step {step},")));
        }
        if every > 0 && step % every == 0 && step < steps {
            evaluate(&mut trainer, held_out.as_deref(), step, on_event).await?;
        }
    }
    if outcome.skipped == steps {
        return Err(Error::NonFinite("the gradient of every step".into()));
    }
    outcome.eval_loss_after = evaluate(&mut trainer, held_out.as_deref(), steps, on_event).await?;
    outcome.peak_device_bytes = trainer.engine().backend.memory().peak_bytes;
    let mut adapter = trainer.adapter().await?;
    adapter.metadata = describe(base, (trainer.options(), &adapter), &data.digest, &outcome)?;
    Ok((adapter, outcome))
}

impl Outcome {
    fn count(&mut self, report: &StepReport, seconds: f64) {
        if self.steps == 0 {
            self.loss_first = report.loss;
        }
        self.loss_last = report.loss;
        self.steps += 1;
        self.skipped += u64::from(!report.grad_norm.is_finite());
        self.tokens += report.tokens as u64;
        self.trained_tokens += report.trained_tokens as u64;
        self.seconds += seconds;
    }

    /// Tokens (without padding) per second of training steps.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }
}

async fn evaluate(
    trainer: &mut Trainer,
    held_out: Option<&[Batch]>,
    step: u64,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Option<f64>> {
    let Some(batches) = held_out else { return Ok(None) };
    let loss = trainer.evaluate(batches).await?;
    on_event(&Event::Evaluated { step, loss });
    Ok(Some(loss))
}
