//! Where a run stands, besides what is on the device.

use std::borrow::Cow;

use super::{EarlyStopping, History, Outcome};
use crate::error::Result;
use crate::gguf::{Gguf, Value};
use crate::train::{StepReport, TrainOptions};

/// What the loop knows between two micro-batches. Saved whole in checkpoints: a run that continues from one must end as
/// one that never stopped.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// What is counted so far.
    pub outcome: Outcome,
    /// Updates by the optimizer's own count.
    pub updates: u64,
    /// Steps in a row whose gradient was not finite.
    pub not_finite: u32,
    /// The step after which the held-out loss was last measured, 0 for before the first; `None`: it was not yet.
    pub evaluated: Option<u64>,
    /// Rows of a micro-batch: as the options say, or fewer after the device ran out of memory.
    pub batch: usize,
    /// Rows of logits that exist at once.
    pub loss_chunk: usize,
    /// Micro-batches of the next step whose gradients are summed up on the device.
    pub micro: usize,
    /// Sum of the losses of these micro-batches, in nats.
    pub loss_sum: f64,
    /// What the evaluations so far mean.
    pub stopping: EarlyStopping,
    /// The curves so far.
    pub history: History,
}

/// Prefix of the keys in files.
const PREFIX: &str = "loam.progress.";

impl Progress {
    /// Before the first step.
    pub fn new(batch: usize) -> Self {
        Self { batch, ..Self::default() }
    }

    /// Counts a step that is done, and with it `updates` of the optimizer.
    pub fn count(&mut self, report: &StepReport, updates: u64) {
        self.outcome.count(report);
        self.history.step(self.outcome.steps, *report);
        self.updates = updates;
        self.not_finite = if report.grad_norm.is_finite() { 0 } else { self.not_finite + 1 };
        (self.micro, self.loss_sum) = (0, 0.0);
    }

    /// Whether the held-out loss was measured after the present step.
    pub fn is_evaluated(&self) -> bool {
        self.evaluated == Some(self.outcome.steps)
    }

    /// Checks that a run of `steps` steps with `options` can stand here.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, options: &TrainOptions, steps: u64) -> Result<(), String> {
        if self.batch == 0 || !options.batch.is_multiple_of(self.batch) {
            return Err(format!("has micro-batches of {} rows for a batch of {}", self.batch, options.batch));
        }
        let rows = self.batch.saturating_mul(options.context);
        if self.loss_chunk == 0 || self.loss_chunk > rows {
            return Err(format!("has chunks of {} rows of {rows}", self.loss_chunk));
        }
        let most = (options.batch / self.batch).saturating_mul(options.accumulate);
        if self.micro > most {
            return Err(format!("is behind micro-batch {} of a step that has {most}", self.micro));
        }
        let EarlyStopping { best, stale, last } = &self.stopping;
        let (best, last) = (best.as_ref().map_or(0, |best| best.step), last.map_or(0, |(step, _)| step));
        let counts = [self.updates, self.outcome.skipped, self.evaluated.unwrap_or(0), *stale, best, last];
        if self.outcome.steps > steps || counts.iter().any(|&count| count > self.outcome.steps) {
            return Err(format!("is behind step {} of {steps}, with counts {counts:?}", self.outcome.steps));
        }
        Ok(())
    }

    /// The same place in micro-batches of `batch` rows, which divides the present number.
    pub fn divide(&mut self, batch: usize) {
        self.micro *= self.batch / batch.max(1);
        self.batch = batch;
    }

    /// Keys and values for a file.
    pub fn fields(&self) -> Vec<(String, Value)> {
        // Named one by one: the compiler then finds what a new field has forgotten here.
        let Progress {
            outcome,
            updates,
            not_finite,
            evaluated,
            batch,
            loss_chunk,
            micro,
            loss_sum,
            stopping,
            // Among the buffers.
            history: _,
        } = self;
        let Outcome {
            steps,
            skipped,
            tokens,
            trained_tokens,
            seconds,
            paused_seconds,
            loss_first,
            loss_last,
            eval_loss_before,
            // Known only when the run has ended.
            eval_loss_after: _,
            best_step: _,
            adapter_step: _,
            stopped_early: _,
            peak_device_bytes: _,
            planned_steps: _,
            times: _,
        } = outcome;
        let mut fields = vec![
            ("steps", Value::U64(*steps)),
            ("skipped", Value::U64(*skipped)),
            ("tokens", Value::U64(*tokens)),
            ("trained_tokens", Value::U64(*trained_tokens)),
            ("seconds", Value::F64(*seconds)),
            ("paused_seconds", Value::F64(*paused_seconds)),
            ("loss_first", Value::F64(*loss_first)),
            ("loss_last", Value::F64(*loss_last)),
            ("updates", Value::U64(*updates)),
            ("not_finite", Value::U32(*not_finite)),
            ("batch", Value::U64(*batch as u64)),
            ("loss_chunk", Value::U64(*loss_chunk as u64)),
            ("micro", Value::U64(*micro as u64)),
            ("loss_sum", Value::F64(*loss_sum)),
        ];
        fields.extend(evaluated.map(|step| ("evaluated", Value::U64(step))));
        fields.extend(stopping.fields());
        fields.extend(eval_loss_before.map(|loss| ("eval_loss_before", Value::F64(loss))));
        fields.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)).collect()
    }

    /// What goes into a file as buffers, by name.
    pub fn buffers(&self) -> Vec<(&str, Cow<'_, [u32]>)> {
        let best = self.stopping.buffer().map(|(name, words)| (name, Cow::Borrowed(words)));
        best.into_iter().chain(self.history.buffers().into_iter().map(|(name, words)| (name, words.into()))).collect()
    }

    /// Takes [`Self::buffers`] out of the buffers of a checkpoint, where they are the last ones.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn restore(&mut self, buffers: &mut Vec<(String, Vec<u32>)>) -> Result<(), &'static str> {
        self.history = History::restore(buffers, self.outcome.steps)?;
        self.stopping.restore(buffers)
    }

    /// Reads [`Self::fields`] back.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) for a key that is missing or of another type.
    pub fn read(gguf: &Gguf) -> Result<Self> {
        let key = |name: &str| format!("{PREFIX}{name}");
        let number = |name: &str| gguf.u64(&key(name));
        let count = |name: &str| {
            let value = number(name)?;
            usize::try_from(value).map_err(|_| gguf.metadata_error(&key(name), format!("is {value}")))
        };
        let outcome = Outcome {
            steps: number("steps")?,
            skipped: number("skipped")?,
            tokens: number("tokens")?,
            trained_tokens: number("trained_tokens")?,
            seconds: gguf.f64(&key("seconds"))?,
            paused_seconds: gguf.f64(&key("paused_seconds"))?,
            loss_first: gguf.f64(&key("loss_first"))?,
            loss_last: gguf.f64(&key("loss_last"))?,
            eval_loss_before: gguf.opt_f64(&key("eval_loss_before"))?,
            ..Outcome::default()
        };
        Ok(Self {
            outcome,
            updates: number("updates")?,
            not_finite: gguf.u32(&key("not_finite"))?,
            evaluated: gguf.opt_u64(&key("evaluated"))?,
            batch: count("batch")?,
            loss_chunk: count("loss_chunk")?,
            micro: count("micro")?,
            loss_sum: gguf.f64(&key("loss_sum"))?,
            stopping: EarlyStopping::read(gguf, &key)?,
            history: History::default(),
        })
    }
}
