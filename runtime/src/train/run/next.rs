//! What a run does next: a function of where it stands, of what it is to do, and of the time.

use std::num::NonZeroU64;

use embassy_time::Duration;

use super::{Outcome, Progress};
use crate::train::objective;
use crate::train::safety::Deadline;

/// Steps in a row with a gradient that is not finite after which a run ends: one can be an accident, these are not.
const GIVE_UP: u32 = 5;

/// What a run is to do, as far as the order of its actions depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Agenda {
    /// Optimizer steps.
    pub steps: u64,
    /// Batches of the general text, which is measured before the first step and in the end; 0: it is not.
    pub general: usize,
    /// Batches of the held-out data; `None` without any.
    pub held_out: Option<usize>,
    /// The held-out loss is measured every so many steps, besides before the first and after the last one.
    pub eval_every: Option<NonZeroU64>,
    /// The run ends after so many evaluations in a row that were not better than the best before them.
    pub patience: Option<NonZeroU64>,
    /// A checkpoint is written every so many steps and after the last one; `None`: never.
    pub checkpoint_every: Option<NonZeroU64>,
    /// Whose losses on the rows of the last step are compared in the end, that of the trained adapter first.
    pub judged: Vec<Candidate>,
}

/// An adapter whose loss is measured in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// What the run has trained.
    Trained,
    /// What it started from.
    Start,
    /// One that changes nothing.
    Untrained,
}

/// Where the run stands in work of which no checkpoint knows: it is done again by a run that continues from one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Position {
    /// Base and adapter are on the device.
    pub is_open: bool,
    /// Micro-batches of the present step.
    pub micro_batches: usize,
    /// The step after which the last checkpoint was due.
    pub saved: u64,
    /// The step after which the last copy for a recovery was taken.
    pub copied: u64,
    /// What of the general text is measured.
    pub general: Losses,
    /// The evaluation that is under way.
    pub evaluation: Losses,
    /// The evaluation after this step is left out: there is no time.
    pub skipped_evaluation: Option<u64>,
    /// The time is over.
    pub is_time_over: bool,
    /// What the run ends with is chosen.
    pub chosen: Option<Chosen>,
    /// The adapter that the run ends with was read from the device.
    pub is_exported: bool,
    /// The losses that are compared in the end, in the order of [`Agenda::judged`].
    pub judged: Vec<Losses>,
}

/// What the run ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// The adapter that the device has.
    Last,
    /// An earlier one, which the device has in the place of the last.
    Best,
}

/// Losses of some batches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Losses {
    /// Batches that are measured.
    pub batches: usize,
    /// Sums of their loss and metrics.
    pub sums: Vec<f64>,
    /// The units that these sums are over.
    pub units: usize,
}

impl Losses {
    /// Adds a batch.
    pub fn add(&mut self, sums: &[f64], units: usize) {
        self.batches += 1;
        objective::add(&mut self.sums, sums);
        self.units += units;
    }

    /// The mean loss.
    pub fn loss(&self) -> f64 {
        self.sums.first().copied().unwrap_or(0.0) / self.units as f64
    }
}

/// What holds at this moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// Time since the run began.
    pub elapsed: Duration,
    /// The run is asked to stop.
    pub is_cancelled: bool,
    /// It is time for a copy for a recovery.
    pub is_copy_due: bool,
}

/// One thing that a run does. Between two of them it can be stopped, and continue in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Put base and adapter on the device, and what a checkpoint or a copy says.
    Open,
    /// Write a checkpoint because one is due.
    Checkpoint,
    /// Copy what training changes to the host, for a recovery.
    Copy,
    /// Measure the loss on this batch of the general text.
    General(usize),
    /// Measure the held-out loss on this batch.
    Evaluate(usize),
    /// All batches are measured: compare the held-out loss with those before, keep the best adapter.
    Compare,
    /// Leave out the evaluation that is due: there is no time for it.
    SkipEvaluation,
    /// Run this micro-batch of the present step.
    MicroBatch(usize),
    /// Update the adapter from the gradients of the step's micro-batches.
    Update,
    /// End before the last step: the time is over.
    EndEarly,
    /// Stop now, to continue later.
    Stop,
    /// Choose the adapter that the run ends with.
    Choose,
    /// Measure the loss of a candidate on a batch of the last step's rows.
    Judge {
        /// Index into [`Agenda::judged`].
        candidate: usize,
        /// The micro-batch.
        batch: usize,
    },
    /// Read the adapter that the run ends with from the device.
    Export,
    /// Everything is done: judge the outcome and return it.
    Finish,
}

impl Action {
    /// Whether a run that is paused waits before this.
    pub fn can_wait(self) -> bool {
        matches!(
            self,
            Action::General(_) | Action::Evaluate(_) | Action::MicroBatch(_) | Action::Judge { candidate: 0, .. }
        )
    }
}

impl Agenda {
    /// Whether there are no more steps to do.
    pub fn has_ended(&self, progress: &Progress, position: &Position) -> bool {
        let done = progress.outcome.steps >= self.steps;
        done || position.is_time_over || gave_up(progress) || progress.stopping.stops(self.patience)
    }

    fn is_checkpoint_due(&self, step: u64) -> bool {
        self.checkpoint_every.is_some_and(|every| step == self.steps || step.is_multiple_of(every.get()))
    }

    fn is_evaluation_due(&self, progress: &Progress, has_ended: bool) -> bool {
        let step = progress.outcome.steps;
        let every = || self.eval_every.is_some_and(|every| step.is_multiple_of(every.get()));
        !progress.is_evaluated() && (step == 0 || has_ended || every())
    }
}

/// Whether gradients have not been finite for too long.
pub fn gave_up(progress: &Progress) -> bool {
    progress.not_finite >= GIVE_UP
}

/// What is to be done next.
pub fn next(agenda: &Agenda, progress: &Progress, position: &Position, deadline: &Deadline, now: Now) -> Action {
    let step = progress.outcome.steps;
    if !position.is_open {
        return Action::Open;
    }
    if let Some(chosen) = position.chosen {
        let general = general_at_end(agenda, progress, position, (deadline, now));
        return general.unwrap_or_else(|| ending(agenda, position, chosen, now));
    }
    if step == 0 && progress.micro == 0 && agenda.general > 0 && progress.outcome.general_loss_before.is_none() {
        return if now.is_cancelled { Action::Stop } else { Action::General(position.general.batches) };
    }
    if position.saved < step && agenda.is_checkpoint_due(step) {
        return Action::Checkpoint;
    }
    if position.copied < step && progress.micro == 0 && now.is_copy_due {
        return Action::Copy;
    }
    let has_ended = agenda.has_ended(progress, position);
    let skipped = position.skipped_evaluation == Some(step);
    match agenda.held_out {
        Some(batches) if !skipped && agenda.is_evaluation_due(progress, has_ended) => {
            evaluation(batches, position, deadline, now)
        }
        _ if has_ended => Action::Choose,
        _ if now.is_cancelled => Action::Stop,
        _ if skipped => Action::EndEarly,
        _ => work(progress, position, deadline, now),
    }
}

/// The next action of an evaluation on so many batches.
fn evaluation(batches: usize, position: &Position, deadline: &Deadline, now: Now) -> Action {
    match position.evaluation.batches {
        done if done >= batches => Action::Compare,
        _ if now.is_cancelled => Action::Stop,
        _ if !deadline.allows_evaluation_batch(now.elapsed) => Action::SkipEvaluation,
        done => Action::Evaluate(done),
    }
}

/// The next batch of the general text in the end, if there is one and the time for it. A run that is asked to stop has
/// done everything else.
fn general_at_end(
    agenda: &Agenda,
    progress: &Progress,
    position: &Position,
    (deadline, now): (&Deadline, Now),
) -> Option<Action> {
    let Outcome { general_loss_before: before, general_loss_after: after, .. } = &progress.outcome;
    let is_due = before.is_some() && after.is_none() && position.general.batches < agenda.general;
    let may = !now.is_cancelled && !position.is_exported && deadline.allows_evaluation_batch(now.elapsed);
    (is_due && may).then_some(Action::General(position.general.batches))
}

/// The next action of a step.
fn work(progress: &Progress, position: &Position, deadline: &Deadline, now: Now) -> Action {
    if progress.micro >= position.micro_batches {
        return Action::Update;
    }
    let more = if progress.micro == 0 { deadline.step.max(deadline.batch) } else { deadline.batch };
    match deadline.allows(now.elapsed, more) {
        true => Action::MicroBatch(progress.micro),
        false => Action::EndEarly,
    }
}

/// The next action of a run whose adapter is chosen. With another adapter than the last one on the device it cannot be
/// stopped: a checkpoint would hold that.
fn ending(agenda: &Agenda, position: &Position, chosen: Chosen, now: Now) -> Action {
    for candidate in 0..agenda.judged.len() {
        if candidate > 0 && !position.is_exported {
            return Action::Export;
        }
        let batch = position.judged.get(candidate).map_or(0, |losses| losses.batches);
        if batch < position.micro_batches {
            let may_stop = candidate == 0 && chosen == Chosen::Last;
            return if may_stop && now.is_cancelled { Action::Stop } else { Action::Judge { candidate, batch } };
        }
    }
    if position.is_exported { Action::Finish } else { Action::Export }
}

#[cfg(test)]
#[path = "next_tests.rs"]
mod tests;
