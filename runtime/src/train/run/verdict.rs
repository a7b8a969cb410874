//! Whether what came out of a run is worth publishing.

use super::Progress;
use crate::error::{Error, Result};
use crate::train::TrainOptions;

/// So much higher than before, in nats per trained token, the loss on the rows of the last step makes a run worse: rows
/// that were just trained on do not become worse by accident, and numbers that differ by rounding are not reported.
const WORSE: f64 = 0.1;

/// Whether what came out of a run is worth publishing, as far as its steps and held-out losses tell.
///
/// # Errors
/// Unless the options force it: [`Error::Diverged`] if the run ended with a loss or a gradient that is not finite,
/// [`Error::Worse`] if the held-out loss of the adapter is higher than before the training, with what it `started`
/// from.
pub fn check(options: &TrainOptions, progress: &Progress, started: bool) -> Result<()> {
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
pub fn check_rows(before: f64, after: f64, started: bool) -> Result<()> {
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
    use crate::train::{EarlyStopping, Outcome};

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
            stopping: EarlyStopping {
                last: losses.last().map(|&loss| (losses.len() as u64, loss)),
                ..Default::default()
            },
            ..Progress::new(1, Default::default())
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
