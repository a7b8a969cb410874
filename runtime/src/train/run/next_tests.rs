//! What is done next, as a table: no device, no data, no clock.

use super::*;
use crate::train::{Best, EarlyStopping, Outcome};

/// Four steps of two micro-batches, three held-out batches measured after every second step, a checkpoint after every
/// third.
fn agenda() -> Agenda {
    Agenda {
        steps: 4,
        general: 0,
        held_out: Some(3),
        eval_every: NonZeroU64::new(2),
        patience: None,
        checkpoint_every: NonZeroU64::new(3),
        judged: Vec::new(),
    }
}

/// After `steps` steps and `micro` micro-batches of the next, with the last evaluation after step `evaluated`.
fn progress(steps: u64, micro: usize, evaluated: Option<u64>) -> Progress {
    Progress {
        outcome: Outcome { steps, ..Outcome::default() },
        micro,
        evaluated,
        ..Progress::new(1, Default::default())
    }
}

/// With everything on the device, and everything kept that was due up to step `step`.
fn position(step: u64) -> Position {
    Position { is_open: true, micro_batches: 2, saved: step, copied: step, ..Position::default() }
}

fn measured(batches: usize) -> Losses {
    Losses { batches, ..Losses::default() }
}

const NOW: Now = Now { elapsed: Duration::MIN, is_cancelled: false, is_copy_due: false };
const CANCELLED: Now = Now { is_cancelled: true, ..NOW };

fn seconds(seconds: u64) -> Now {
    Now { elapsed: Duration::from_secs(seconds), ..NOW }
}

/// Ten seconds for everything; a step takes four, a batch one, an evaluation three.
fn ten_seconds() -> Deadline {
    let [step, batch, evaluation] = [4, 1, 3].map(Duration::from_secs);
    Deadline { limit: Some(Duration::from_secs(10)), step, batch, evaluation, general: Duration::MIN }
}

fn check(cases: &[(&str, Progress, Position, Now, Action)], agenda: &Agenda, deadline: &Deadline) {
    for (what, progress, position, now, expected) in cases {
        assert_eq!(next(agenda, progress, position, deadline, *now), *expected, "{what}");
    }
}

#[test]
fn a_run_in_peace() {
    let none = || progress(0, 0, None);
    let evaluating = |batches| Position { evaluation: measured(batches), ..position(0) };
    let cases = [
        ("nothing is on the device", none(), Position::default(), CANCELLED, Action::Open),
        ("before the first step", none(), position(0), NOW, Action::Evaluate(0)),
        ("within the evaluation", none(), evaluating(2), NOW, Action::Evaluate(2)),
        ("all batches are measured", none(), evaluating(3), NOW, Action::Compare),
        ("the first micro-batch", progress(0, 0, Some(0)), position(0), NOW, Action::MicroBatch(0)),
        ("the second one", progress(0, 1, Some(0)), position(0), NOW, Action::MicroBatch(1)),
        ("all gradients are there", progress(0, 2, Some(0)), position(0), NOW, Action::Update),
        ("a step without an evaluation", progress(1, 0, Some(0)), position(0), NOW, Action::MicroBatch(0)),
        ("an evaluation is due", progress(2, 0, Some(0)), position(0), NOW, Action::Evaluate(0)),
        ("a checkpoint is due", progress(3, 0, Some(2)), position(0), NOW, Action::Checkpoint),
        ("it is written", progress(3, 0, Some(2)), position(3), NOW, Action::MicroBatch(0)),
        ("a checkpoint at the end", progress(4, 0, Some(2)), position(3), NOW, Action::Checkpoint),
        ("an evaluation at the end", progress(4, 0, Some(2)), position(4), NOW, Action::Evaluate(0)),
        ("all is measured", progress(4, 0, Some(4)), position(4), NOW, Action::Choose),
    ];
    check(&cases, &agenda(), &Deadline::new(None));
}

#[test]
fn copies_are_taken_between_steps_when_they_are_due() {
    let due = Now { is_copy_due: true, ..NOW };
    let saved = Position { copied: 2, ..position(3) };
    let cases = [
        ("nothing has changed", progress(0, 0, Some(0)), position(0), due, Action::MicroBatch(0)),
        ("after a step", progress(1, 0, Some(0)), position(0), due, Action::Copy),
        ("within a step", progress(1, 1, Some(0)), position(0), due, Action::MicroBatch(1)),
        ("a checkpoint comes first", progress(3, 0, Some(2)), position(2), due, Action::Checkpoint),
        ("then the copy", progress(3, 0, Some(2)), saved, due, Action::Copy),
    ];
    check(&cases, &agenda(), &Deadline::new(None));
}

#[test]
fn a_run_stops_between_batches_and_not_when_all_is_done() {
    let chosen = |chosen| Position { chosen: Some(chosen), ..position(4) };
    let cases = [
        ("before the first batch", progress(0, 0, None), position(0), CANCELLED, Action::Stop),
        ("before a micro-batch", progress(1, 1, Some(0)), position(0), CANCELLED, Action::Stop),
        ("before an update", progress(1, 2, Some(0)), position(0), CANCELLED, Action::Stop),
        (
            "a checkpoint that is due is written first",
            progress(3, 0, Some(2)),
            position(0),
            CANCELLED,
            Action::Checkpoint,
        ),
        (
            "a measured evaluation counts",
            progress(0, 0, None),
            Position { evaluation: measured(3), ..position(0) },
            CANCELLED,
            Action::Compare,
        ),
        ("everything is measured", progress(4, 0, Some(4)), position(4), CANCELLED, Action::Choose),
        ("the adapter is chosen", progress(4, 0, Some(4)), chosen(Chosen::Last), CANCELLED, Action::Export),
    ];
    check(&cases, &agenda(), &Deadline::new(None));
    let judging = Agenda { held_out: None, judged: vec![Candidate::Trained, Candidate::Untrained], ..agenda() };
    let trained = Position { is_exported: true, judged: vec![measured(2)], ..chosen(Chosen::Last) };
    let cases = [
        ("the last adapter is measured", progress(4, 0, None), chosen(Chosen::Last), CANCELLED, Action::Stop),
        (
            "an earlier one is on the device",
            progress(4, 0, None),
            chosen(Chosen::Best),
            CANCELLED,
            Action::Judge { candidate: 0, batch: 0 },
        ),
        (
            "another one is on the device",
            progress(4, 0, None),
            trained,
            CANCELLED,
            Action::Judge { candidate: 1, batch: 0 },
        ),
    ];
    check(&cases, &judging, &Deadline::new(None));
}

#[test]
fn what_came_out_is_compared_on_the_rows_of_the_last_step() {
    let candidates = vec![Candidate::Trained, Candidate::Start, Candidate::Untrained];
    let agenda = Agenda { held_out: None, eval_every: None, judged: candidates, ..agenda() };
    let at = |is_exported, judged: &[usize]| {
        let judged = judged.iter().map(|batches| measured(*batches)).collect();
        Position { chosen: Some(Chosen::Last), is_exported, judged, ..position(4) }
    };
    let judge = |candidate, batch| Action::Judge { candidate, batch };
    let cases = [
        ("the trained one first", at(false, &[]), judge(0, 0)),
        ("all of its batches", at(false, &[1]), judge(0, 1)),
        ("it is read before another takes its place", at(false, &[2]), Action::Export),
        ("what it started from", at(true, &[2]), judge(1, 0)),
        ("all of its batches", at(true, &[2, 1]), judge(1, 1)),
        ("one that changes nothing", at(true, &[2, 2]), judge(2, 0)),
        ("all are measured", at(true, &[2, 2, 2]), Action::Finish),
    ];
    let cases = cases.map(|(what, position, expected)| (what, progress(4, 0, None), position, NOW, expected));
    check(&cases, &agenda, &Deadline::new(None));
    let trusting = Agenda { judged: Vec::new(), ..agenda };
    let cases = [(false, Action::Export), (true, Action::Finish)];
    let cases =
        cases.map(|(read, expected)| ("nothing to compare", progress(4, 0, None), at(read, &[]), NOW, expected));
    check(&cases, &trusting, &Deadline::new(None));
}

#[test]
fn a_run_ends_in_time_for_its_last_evaluation() {
    let skipped = |step| Position { skipped_evaluation: Some(step), ..position(step) };
    let over = |step| Position { is_time_over: true, ..position(step) };
    let cases = [
        ("2 + 4 + 3 are less than ten", progress(1, 0, Some(0)), position(1), seconds(2), Action::MicroBatch(0)),
        ("3 + 4 + 3 are not", progress(1, 0, Some(0)), position(1), seconds(3), Action::EndEarly),
        ("within a step a batch counts", progress(1, 1, Some(0)), position(1), seconds(5), Action::MicroBatch(1)),
        ("and there is no time for one", progress(1, 1, Some(0)), position(1), seconds(6), Action::EndEarly),
        ("an update takes no time", progress(1, 2, Some(0)), position(1), seconds(60), Action::Update),
        ("an evaluation runs batch by batch", progress(2, 0, Some(0)), position(2), seconds(8), Action::Evaluate(0)),
        ("as long as there is time", progress(2, 0, Some(0)), position(2), seconds(9), Action::SkipEvaluation),
        ("without it there is no next step", progress(2, 0, Some(0)), skipped(2), seconds(1), Action::EndEarly),
        ("the time is over", progress(1, 1, Some(0)), over(1), seconds(8), Action::Evaluate(0)),
        ("the last evaluation is due, too", progress(1, 1, Some(0)), over(1), seconds(9), Action::SkipEvaluation),
        (
            "it is left out",
            progress(2, 0, Some(0)),
            Position { is_time_over: true, ..skipped(2) },
            seconds(9),
            Action::Choose,
        ),
    ];
    check(&cases, &agenda(), &ten_seconds());
}

#[test]
fn a_run_ends_when_it_gains_nothing_more() {
    let best = Best { step: 1, loss: 1.0, values: Default::default() };
    let stopping = EarlyStopping { best: Some(best), stale: 2, last: Some((2, 1.5)) };
    let stale = Progress { stopping, ..progress(2, 0, Some(2)) };
    let cases = [("endless patience", stale.clone(), position(2), NOW, Action::MicroBatch(0))];
    check(&cases, &agenda(), &Deadline::new(None));
    let impatient = Agenda { patience: NonZeroU64::new(2), ..agenda() };
    let cases = [("two evaluations in vain", stale, position(2), NOW, Action::Choose)];
    check(&cases, &impatient, &Deadline::new(None));
    let broken = |steps| Progress { not_finite: steps, ..progress(3, 0, Some(2)) };
    let cases = [
        ("one bad gradient is an accident", broken(1), position(3), NOW, Action::MicroBatch(0)),
        ("five are not: the end is measured", broken(GIVE_UP), position(3), NOW, Action::Evaluate(0)),
    ];
    check(&cases, &agenda(), &Deadline::new(None));
}

#[test]
fn the_general_text_is_measured_before_and_after() {
    let agenda = Agenda { general: 2, judged: vec![Candidate::Trained], ..agenda() };
    let with = |steps, before: Option<f64>, after: Option<f64>| {
        let outcome = Outcome { steps, general_loss_before: before, general_loss_after: after, ..Outcome::default() };
        Progress { outcome, ..progress(steps, 0, Some(steps)) }
    };
    let general = |position: Position, batches| Position { general: measured(batches), ..position };
    let chosen = || Position { chosen: Some(Chosen::Last), micro_batches: 1, ..position(4) };
    let (none, half) = (Position::default(), general(position(0), 1));
    let is_late = Now { elapsed: Duration::from_secs(10), ..NOW };
    let cases = [
        ("nothing is on the device", with(0, None, None), none, NOW, Action::Open),
        (
            "before everything",
            Progress { evaluated: None, ..with(0, None, None) },
            position(0),
            NOW,
            Action::General(0),
        ),
        ("its second batch", with(0, None, None), half.clone(), NOW, Action::General(1)),
        ("a run can be stopped there", with(0, None, None), half, CANCELLED, Action::Stop),
        ("it is measured", with(0, Some(3.0), None), position(0), NOW, Action::MicroBatch(0)),
        ("a run that began without it", with(1, None, None), position(1), NOW, Action::MicroBatch(0)),
        ("with the adapter that is chosen", with(4, Some(3.0), None), chosen(), NOW, Action::General(0)),
        (
            "no time is left for it",
            with(4, Some(3.0), None),
            chosen(),
            is_late,
            Action::Judge { candidate: 0, batch: 0 },
        ),
        ("then comes the rest", with(4, Some(3.0), Some(3.1)), chosen(), NOW, Action::Judge { candidate: 0, batch: 0 }),
        ("without it", with(4, None, None), chosen(), NOW, Action::Judge { candidate: 0, batch: 0 }),
    ];
    check(&cases, &agenda, &ten_seconds());
}
