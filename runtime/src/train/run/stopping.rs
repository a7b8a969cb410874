//! What held-out losses mean for a run: the best adapter so far, when to stop, and whether the end may be published.

use super::Progress;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};
use crate::train::TrainOptions;

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
    /// Its values, as [`crate::train::Trainer::values`] returns them.
    pub values: Vec<u32>,
}

/// What a held-out loss after a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The lowest after a step so far: the caller then sets [`Stopping::best`].
    pub lowest: bool,
    /// Lower than all before it, that before the training too.
    pub better: bool,
}

/// So much higher than before, in nats per trained token, the loss on the rows of the last step makes a run worse: rows
/// that were just trained on do not become worse by accident, and numbers that differ by rounding are not reported.
pub(super) const WORSE: f64 = 0.1;

/// Name of [`Best::values`] among the buffers of a checkpoint.
const VALUES: &str = "best";

/// What a run remembers of its evaluations: with it a run can continue as if it had never stopped.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stopping {
    /// The best adapter after a step, if one was measured.
    pub best: Option<Best>,
    /// Evaluations since then.
    pub stale: u64,
    /// Step and loss of the last evaluation after a step. The loss may be NaN or infinite.
    pub last: Option<(u64, f64)>,
}

impl Stopping {
    /// Takes the held-out loss after `step` steps of a run that began with the loss `before`, and says what it is. One
    /// that is not finite is never better than another.
    pub fn take(&mut self, step: u64, loss: f64, before: Option<f64>) -> Taken {
        self.last = Some((step, loss));
        let lowest = loss.is_finite() && self.best.as_ref().is_none_or(|best| loss < best.loss);
        let better = lowest && before.is_none_or(|before| loss < before);
        self.stale = if better { 0 } else { self.stale + 1 };
        Taken { lowest, better }
    }

    /// Whether `patience` evaluations in a row were not better than the best before them; 0 is endless patience.
    pub fn stops(&self, patience: u64) -> bool {
        patience > 0 && self.stale >= patience
    }

    /// The values of the best adapter as a buffer of a checkpoint.
    pub fn buffer(&self) -> Option<(&str, &[u32])> {
        self.best.as_ref().map(|best| (VALUES, best.values.as_slice()))
    }

    /// Takes the values of the best adapter, if there is one, out of the buffers of a checkpoint.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn restore(&mut self, buffers: &mut Vec<(String, Vec<u32>)>) -> Result<(), &'static str> {
        let Some(best) = &mut self.best else { return Ok(()) };
        let (_, values) = buffers.pop_if(|(name, _)| name == VALUES).ok_or("does not have the best adapter")?;
        // The first buffer is the adapter as it is, whose length is compared with what the run needs.
        let words = buffers.first().map(|(_, words)| words.len());
        best.values =
            Some(values).filter(|values| words == Some(values.len())).ok_or("has a best adapter of another length")?;
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
    /// [`Error::File`] for a key that is missing or of another type.
    pub fn read(gguf: &Gguf, key: &dyn Fn(&str) -> String) -> Result<Self> {
        let pair = |step: &str, loss: &str| -> loam_files::Result<Option<(u64, f64)>> {
            let loss = gguf.opt_f64(&key(loss))?;
            loss.map(|loss| Ok((gguf.u64(&key(step))?, loss))).transpose()
        };
        let best = pair("best_step", "best_loss")?.map(|(step, loss)| Best { step, loss, values: Vec::new() });
        Ok(Self { best, stale: gguf.u64(&key("stale"))?, last: pair("last_step", "last_loss")? })
    }

    /// The best adapter, where it is to be the end and is not the last one.
    pub fn earlier(&self, keep: Keep, steps: u64) -> Option<&Best> {
        self.best.as_ref().filter(|best| keep == Keep::Best && best.step != steps)
    }
}

/// Whether what came out of a run is worth publishing, as far as its steps and held-out losses tell.
///
/// # Errors
/// Unless the options force it: [`Error::Diverged`] if the run ended with a loss or a gradient that is not finite,
/// [`Error::Worse`] if the held-out loss of the adapter is higher than before the training, with what it `started`
/// from.
pub(super) fn check(options: &TrainOptions, progress: &Progress, started: bool) -> Result<()> {
    let Progress { outcome, stopping, not_finite, .. } = progress;
    if options.force {
        return Ok(());
    }
    if !outcome.loss_last.is_finite() {
        return Err(Error::Diverged("the loss of the last step"));
    }
    if *not_finite > 0 {
        return Err(Error::Diverged("the gradient of the last step"));
    }
    if stopping.last.is_some_and(|(_, loss)| !loss.is_finite()) {
        return Err(Error::Diverged("the last held-out loss"));
    }
    match (outcome.eval_loss_before, outcome.eval_loss_after) {
        (Some(before), Some(after)) if after > before => {
            Err(Error::Worse { than: than(started), what: "held-out loss", before, after })
        }
        _ => Ok(()),
    }
}

/// What a loss before a training is that of.
fn than(started: bool) -> &'static str {
    if started { "what it started from" } else { "none" }
}

/// The same by the losses on the rows of the last step, `before` with no adapter or with what the run `started` from,
/// and `after` with what it has learned.
///
/// # Errors
/// [`Error::Diverged`], or [`Error::Worse`] if the loss has clearly risen.
pub(super) fn check_rows(before: f64, after: f64, started: bool) -> Result<()> {
    if !after.is_finite() {
        return Err(Error::Diverged("the loss after the last step"));
    }
    match after > before + WORSE {
        true => Err(Error::Worse { than: than(started), what: "loss on the rows of the last step", before, after }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Outcome;

    fn after(before: Option<f64>, losses: &[f64]) -> (Vec<bool>, Stopping) {
        let mut stopping = Stopping::default();
        let better = losses.iter().enumerate().map(|(i, &loss)| {
            let taken = stopping.take(i as u64 + 1, loss, before);
            if taken.lowest {
                stopping.best = Some(Best { step: i as u64 + 1, loss, values: vec![i as u32] });
            }
            taken.better
        });
        (better.collect(), stopping)
    }

    #[test]
    fn the_lowest_loss_is_kept_and_patience_counts_from_it() {
        let (better, stopping) = after(None, &[3.0, 2.0, 2.0, f64::NAN, 2.5]);
        assert_eq!(better, [true, true, false, false, false]);
        assert_eq!(stopping.best, Some(Best { step: 2, loss: 2.0, values: vec![1] }));
        assert!(stopping.stops(3) && !stopping.stops(4) && !stopping.stops(0));
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
        assert!(stopping.stops(2), "patience counts from the start");
        assert_eq!(stopping.best.map(|best| best.step), Some(2), "the least bad one, for who forces it");
    }

    #[test]
    fn rows_of_the_last_step_that_became_worse_are_told_of() {
        assert!(
            check_rows(4.5, 4.5, false).is_ok()
                && check_rows(4.5, 4.55, false).is_ok()
                && check_rows(f64::NAN, 4.0, false).is_ok()
        );
        assert!(matches!(check_rows(4.5, 4.7, false), Err(Error::Worse { before: 4.5, after: 4.7, .. })));
        assert!(matches!(check_rows(4.5, f64::NAN, false), Err(Error::Diverged(_))));
    }

    #[test]
    fn worse_and_not_finite_ends_are_refused_unless_forced() {
        let options = TrainOptions::default();
        let outcome = |last, before, after| Outcome {
            loss_last: last,
            eval_loss_before: before,
            eval_loss_after: after,
            ..Outcome::default()
        };
        let progress = |outcome: &Outcome, losses: &[f64]| Progress {
            outcome: outcome.clone(),
            stopping: after(None, losses).1,
            ..Progress::new(1)
        };
        let check = |outcome: &Outcome| check(&options, &progress(outcome, &[2.0]), false);
        assert!(check(&outcome(1.0, None, None)).is_ok() && check(&outcome(9.0, Some(2.0), Some(2.0))).is_ok());
        assert!(matches!(check(&outcome(f64::NAN, None, None)), Err(Error::Diverged(_))));
        let worse = outcome(1.0, Some(2.0), Some(2.1));
        assert!(matches!(check(&worse), Err(Error::Worse { .. })));
        let forced = TrainOptions { force: true, ..TrainOptions::default() };
        assert!(super::check(&forced, &progress(&worse, &[]), false).is_ok());
        let fine = outcome(1.0, None, None);
        let ended = progress(&fine, &[2.0, f64::NAN]);
        assert!(matches!(super::check(&options, &ended, false), Err(Error::Diverged(_))));
        let ended = Progress { not_finite: 1, ..progress(&fine, &[2.0]) };
        assert!(
            matches!(super::check(&options, &ended, false), Err(Error::Diverged(what)) if what.contains("gradient"))
        );
        assert!(super::check(&forced, &ended, false).is_ok());
    }
}
