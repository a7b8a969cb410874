//! Where a run stands, besides what is on the device.

use std::borrow::Cow;

use super::{EarlyStopping, History, Outcome};
use crate::error::Result;
use crate::gguf::{Gguf, Value};
use crate::train::objective::{KnownReferences, Metric, Metrics, References};
use crate::train::{Objective, StepReport, TrainOptions};

/// What the loop knows between two micro-batches. Saved whole in checkpoints: a run that continues from one must end as
/// one that never stopped.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// What is learned.
    pub objective: &'static Objective,
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
    /// Sums of loss and metrics over these micro-batches.
    pub sums: Vec<f64>,
    /// What is known of the model without adapter.
    pub references: KnownReferences,
    /// What the evaluations so far mean.
    pub stopping: EarlyStopping,
    /// The curves so far.
    pub history: History,
}

/// Prefix of the keys in files.
const PREFIX: &str = "loam.progress.";
/// Names of buffers.
const SUMS: &str = "sums";
const REFERENCES: &str = "references";
const HELD_OUT_REFERENCES: &str = "held_out_references";

impl Progress {
    /// Before the first step.
    pub fn new(batch: usize, objective: &'static Objective) -> Self {
        Self { batch, objective, ..Self::default() }
    }

    /// Counts a step that is done, and with it `updates` of the optimizer.
    pub fn count(&mut self, report: &StepReport, updates: u64) {
        self.outcome.count(report);
        self.history.step(self.outcome.steps, report.clone());
        self.updates = updates;
        self.not_finite = if report.grad_norm.is_finite() { 0 } else { self.not_finite + 1 };
        (self.micro, self.sums) = (0, Vec::new());
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
        let rows = options.in_batches_of(self.batch).rows().saturating_mul(options.context);
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

    /// Completes what is known of the outcome with what the objective reports besides losses, as far as the curves
    /// have it.
    pub fn complete(&mut self) {
        let at = |step: u64| self.history.held_out.iter().find(|(of, _)| *of == step);
        let others = |found: Option<&(u64, Metrics)>| -> Vec<Metric> {
            found.map_or_else(Vec::new, |(_, metrics)| metrics.others.clone())
        };
        let (before, after) = (others(at(0)), others(at(self.outcome.adapter_step)));
        let last = self.history.steps.last().filter(|(step, _)| *step == self.outcome.steps);
        self.outcome.metrics_last = last.map_or_else(Vec::new, |(_, report)| report.metrics.others.clone());
        (self.outcome.eval_metrics_before, self.outcome.eval_metrics_after) = (before, after);
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
            // Among the buffers.
            sums: _,
            references: _,
            objective,
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
            general_loss_before,
            general_tokens,
            // Known only when the run has ended.
            general_loss_after: _,
            rows_loss_before: _,
            rows_loss_after: _,
            eval_loss_after: _,
            best_step: _,
            adapter_step: _,
            stopped_early: _,
            peak_device_bytes: _,
            planned_steps: _,
            times: _,
            metrics_last: _,
            eval_metrics_before: _,
            eval_metrics_after: _,
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
            ("objective", Value::from(objective.name)),
            ("general_tokens", Value::U64(*general_tokens)),
        ];
        fields.extend(evaluated.map(|step| ("evaluated", Value::U64(step))));
        fields.extend(stopping.fields());
        fields.extend(eval_loss_before.map(|loss| ("eval_loss_before", Value::F64(loss))));
        fields.extend(general_loss_before.map(|loss| ("general_loss_before", Value::F64(loss))));
        fields.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)).collect()
    }

    /// What goes into a file as buffers, by name.
    pub fn buffers(&self) -> Vec<(&str, Cow<'_, [u32]>)> {
        let best = self.stopping.buffer(self.outcome.steps).map(|(name, words)| (name, Cow::Borrowed(words)));
        let sums = self.sums.iter().flat_map(|sum| [sum.to_bits() as u32, (sum.to_bits() >> 32) as u32]);
        let KnownReferences { train, held_out } = &self.references;
        let own = [(SUMS, sums.collect()), (REFERENCES, train.words()), (HELD_OUT_REFERENCES, held_out.words())];
        let own = own.into_iter().filter(|(_, words): &(_, Vec<u32>)| !words.is_empty());
        let more = own.chain(self.history.buffers()).map(|(name, words)| (name, words.into()));
        best.into_iter().chain(more).collect()
    }

    /// Takes [`Self::buffers`] out of the buffers of a checkpoint, where they are the last ones.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn restore(&mut self, buffers: &mut Vec<(String, Vec<u32>)>) -> Result<(), &'static str> {
        self.history = History::restore(buffers, self.outcome.steps, self.objective.metrics)?;
        let mut take = |wanted| buffers.pop_if(|(name, _)| name == wanted).map_or_else(Vec::new, |(_, words)| words);
        self.references.held_out = References::read(&take(HELD_OUT_REFERENCES))?;
        self.references.train = References::read(&take(REFERENCES))?;
        let sums = take(SUMS);
        let whole = sums.len() == if self.micro == 0 { 0 } else { 2 * (1 + self.objective.metrics.len()) };
        if !whole {
            return Err("has sums of another number of metrics");
        }
        let sum = |pair: &[u32]| f64::from_bits(u64::from(pair[0]) | u64::from(pair[1]) << 32);
        self.sums = sums.chunks_exact(2).map(sum).collect();
        self.stopping.restore(buffers, self.outcome.steps)
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
        let name = gguf.str(&key("objective"))?;
        let objective = Objective::named(name)
            .ok_or_else(|| gguf.metadata_error(&key("objective"), format!("is {name:?}, which is not known")))?;
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
            general_loss_before: gguf.opt_f64(&key("general_loss_before"))?,
            general_tokens: number("general_tokens")?,
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
            sums: Vec::new(),
            references: KnownReferences::default(),
            objective,
            stopping: EarlyStopping::read(gguf, &key)?,
            history: History::default(),
        })
    }
}
