//! What held-out losses mean for a run: the best adapter so far, and when to stop.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::error::Result;
use crate::gguf::{Gguf, Value};

/// Which adapter a run with held-out data ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// The one with the lowest held-out loss of all that were measured after a step.
    #[default]
    Best,
    /// The one after the last step.
    Last,
}

/// The adapter with the lowest held-out loss so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// Steps done.
    pub step: u64,
    /// Its held-out loss, in nats per trained token.
    pub loss: f64,
    /// Its values, as [`crate::train::Trainer::values`] returns them. Copies of a run's progress share them.
    pub values: Arc<Vec<u32>>,
}

/// What a held-out loss after a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The lowest after a step so far: the caller then sets [`EarlyStopping::best`].
    pub lowest: bool,
    /// Lower than all before it, that before the training too.
    pub better: bool,
}

/// Name of [`Best::values`] among the buffers of a checkpoint.
const VALUES: &str = "best";

/// What a run remembers of its evaluations: with it a run can continue as if it had never stopped.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EarlyStopping {
    /// The best adapter after a step, if one was measured.
    pub best: Option<Best>,
    /// Evaluations since then.
    pub stale: u64,
    /// Step and loss of the last evaluation after a step. The loss may be NaN or infinite.
    pub last: Option<(u64, f64)>,
}

impl EarlyStopping {
    /// Takes the held-out loss after `step` steps of a run that began with the loss `before`, and says what it is. One
    /// that is not finite is never better than another.
    pub fn take(&mut self, step: u64, loss: f64, before: Option<f64>) -> Taken {
        self.last = Some((step, loss));
        let lowest = loss.is_finite() && self.best.as_ref().is_none_or(|best| loss < best.loss);
        let better = lowest && before.is_none_or(|before| loss < before);
        self.stale = if better { 0 } else { self.stale + 1 };
        Taken { lowest, better }
    }

    /// Whether `patience` evaluations in a row were not better than the best before them; `None` is endless patience.
    pub fn stops(&self, patience: Option<NonZeroU64>) -> bool {
        patience.is_some_and(|patience| self.stale >= patience.get())
    }

    /// The values of the best adapter as a buffer of a checkpoint after `steps` steps, if it is not the present one.
    pub fn buffer(&self, steps: u64) -> Option<(&str, &[u32])> {
        let earlier = self.best.as_ref().filter(|best| best.step != steps);
        earlier.map(|best| (VALUES, best.values.as_slice()))
    }

    /// Takes the values of the best adapter, if there is one, out of the buffers of a checkpoint after `steps` steps.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn restore(&mut self, buffers: &mut Vec<(String, Vec<u32>)>, steps: u64) -> Result<(), &'static str> {
        let Some(best) = &mut self.best else { return Ok(()) };
        if best.step == steps {
            let (_, present) = buffers.first().ok_or("does not have the adapter")?;
            best.values = Arc::new(present.clone());
            return Ok(());
        }
        let (_, values) = buffers.pop_if(|(name, _)| name == VALUES).ok_or("does not have the best adapter")?;
        // The first buffer is the adapter as it is, whose length is compared with what the run needs.
        let words = buffers.first().map(|(_, words)| words.len());
        if words != Some(values.len()) {
            return Err("has a best adapter of another length");
        }
        best.values = Arc::new(values);
        Ok(())
    }

    /// Names and values for a file.
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        let mut fields = vec![("stale", Value::U64(self.stale))];
        if let Some(Best { step, loss, .. }) = &self.best {
            fields.extend([("best_step", Value::U64(*step)), ("best_loss", Value::F64(*loss))]);
        }
        if let Some((step, loss)) = self.last {
            fields.extend([("last_step", Value::U64(step)), ("last_loss", Value::F64(loss))]);
        }
        fields
    }

    /// Reads [`Self::fields`] back, but for the values of the best adapter; `key` makes keys of names.
    ///
    /// # Errors
    /// [`crate::Error::File`] for a key that is missing or of another type.
    pub fn read(gguf: &Gguf, key: &dyn Fn(&str) -> String) -> Result<Self> {
        let pair = |step: &str, loss: &str| -> loam_files::Result<Option<(u64, f64)>> {
            let loss = gguf.opt_f64(&key(loss))?;
            loss.map(|loss| Ok((gguf.u64(&key(step))?, loss))).transpose()
        };
        let best = pair("best_step", "best_loss")?.map(|(step, loss)| Best { step, loss, values: Arc::default() });
        Ok(Self { best, stale: gguf.u64(&key("stale"))?, last: pair("last_step", "last_loss")? })
    }

    /// The best adapter, where it is to be the end and is not the last one.
    pub fn earlier(&self, keep: Keep, steps: u64) -> Option<&Best> {
        self.best.as_ref().filter(|best| keep == Keep::Best && best.step != steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: Option<f64>, losses: &[f64]) -> (Vec<bool>, EarlyStopping) {
        let mut stopping = EarlyStopping::default();
        let better = losses.iter().enumerate().map(|(i, &loss)| {
            let taken = stopping.take(i as u64 + 1, loss, before);
            if taken.lowest {
                stopping.best = Some(Best { step: i as u64 + 1, loss, values: Arc::new(vec![i as u32]) });
            }
            taken.better
        });
        (better.collect(), stopping)
    }

    #[test]
    fn the_lowest_loss_is_kept_and_patience_counts_from_it() {
        let (better, stopping) = after(None, &[3.0, 2.0, 2.0, f64::NAN, 2.5]);
        assert_eq!(better, [true, true, false, false, false]);
        assert_eq!(stopping.best, Some(Best { step: 2, loss: 2.0, values: Arc::new(vec![1]) }));
        assert!(stopping.stops(NonZeroU64::new(3)) && !stopping.stops(NonZeroU64::new(4)) && !stopping.stops(None));
        assert_eq!(stopping.earlier(Keep::Best, 5).map(|best| best.step), Some(2));
        assert!(stopping.earlier(Keep::Last, 5).is_none() && stopping.earlier(Keep::Best, 2).is_none());
        assert!(after(None, &[f64::NAN]).1.best.is_none());
    }

    #[test]
    fn what_is_worse_than_before_the_training_is_not_better() {
        let (better, stopping) = after(Some(2.5), &[3.0, 2.8, 2.4, 2.45]);
        assert_eq!(better, [false, false, true, false]);
        assert_eq!(stopping.best.map(|best| best.step), Some(3));
        let (better, stopping) = after(Some(2.5), &[3.0, 2.8]);
        assert_eq!(better, [false, false]);
        assert!(stopping.stops(NonZeroU64::new(2)), "patience counts from the start");
        assert_eq!(stopping.best.map(|best| best.step), Some(2), "the least bad one, for who forces it");
    }
}
