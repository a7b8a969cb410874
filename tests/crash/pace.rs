//! Slowly, with pauses, in time: the adapter is the same. Times are bounded from below only, or generously: the machine
//! has other things to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration as Span, Instant};

use embassy_time::Duration;
use loam::backend::cpu::CpuBackend;
use loam::backend::{Backend, Options};
use loam::digest::sha256_file;
use loam::gguf::Value;
use loam::train::{self, Condition, Control, Event, Outcome, RunOptions, Why};
use loam::{AdapterFile, Engine, Error, Result};
use loam_tests::watched::Call;
use loam_tests::{Watched, back_ends_with};

use crate::job::{Job, STEPS, dataset, kept_in};

/// A device whose programs take at least `work`, and that calls `at_run` with their number.
fn slow(work: Span, mut at_run: impl FnMut(u32) + Send + 'static) -> Box<dyn Backend> {
    let mut runs = 0;
    Box::new(Watched::new(CpuBackend::new(Some(1)).expect("cpu back end"), move |_, call| {
        if call == Call::Run {
            runs += 1;
            at_run(runs);
            std::thread::sleep(work);
        }
        Ok(())
    }))
}

/// Trains `job`; what was told besides.
fn told(job: &Job, backend: Box<dyn Backend>, upkeep: RunOptions) -> (Result<(AdapterFile, Outcome)>, Vec<Event>) {
    let mut events = Vec::new();
    let mut on_event = |event: &Event| events.push(event.clone());
    let (job, mut engine) = (job.job(), Engine::new(&job.base, backend).expect("engine"));
    let work = train::run(&job, &mut engine, upkeep, &mut on_event);
    let result = pollster::block_on(work);
    (result, events)
}

fn pauses(events: &[Event]) -> Vec<Event> {
    let pauses = events.iter().filter(|event| matches!(event, Event::Paused { .. } | Event::Continued { .. }));
    pauses.cloned().collect()
}

fn notes(events: &[Event], part: &str) -> usize {
    events.iter().filter(|event| matches!(event, Event::Note { message } if message.contains(part))).count()
}

#[test]
fn a_quarter_of_the_time() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let begun = Instant::now();
    let backend = slow(Span::from_millis(12), |_| ());
    let upkeep = RunOptions { duty: 0.25, ..RunOptions::default() };
    let digest = job.run(backend, upkeep, &folder.path().join("adapter.gguf"), &mut |_| ()).expect("trains");
    // Micro-batches and evaluations: 4 steps of 2, 5 evaluations of 2.
    let work = Span::from_millis(12) * 18;
    assert!(begun.elapsed() > work * 4 - Span::from_millis(60), "{:?} for {work:?} of work", begun.elapsed());
    assert_eq!(digest, job.golden());
}

#[test]
fn an_application_can_slow_a_run_down_and_pause_it() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut asked = 0;
    let conditions = move || {
        asked += 1;
        match asked % 7 {
            0 | 1 => Condition::Pause,
            2 => Condition::Slow(0.5),
            3 => Condition::Slow(f32::NAN),
            _ => Condition::Run,
        }
    };
    let begun = Instant::now();
    let upkeep = RunOptions { conditions: Some(Box::new(conditions)), ..RunOptions::default() };
    let digest = job.run(Job::cpu(), upkeep, &folder.path().join("adapter.gguf"), &mut |_| ()).expect("trains");
    assert_eq!(digest, job.golden());
    // Paused at least twice, 20 ms each time.
    assert!(begun.elapsed() > Span::from_millis(40), "{:?}", begun.elapsed());
}

#[test]
fn a_paused_run_waits_until_it_may_go_on() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let (control, wait) = (Control::new(), Span::from_millis(300));
    let steer = control.clone();
    let backend = slow(Span::ZERO, move |run| {
        if run == 3 {
            steer.pause();
            let later = steer.clone();
            std::thread::spawn(move || {
                std::thread::sleep(wait);
                later.resume();
            });
        }
    });
    let begun = Instant::now();
    let upkeep = RunOptions { control, ..RunOptions::default() };
    let (result, events) = told(&job, backend, upkeep);
    let (adapter, outcome) = result.expect("trains");
    assert!(begun.elapsed() > wait, "{:?}", begun.elapsed());
    let out = folder.path().join("adapter.gguf");
    adapter.write(&out).expect("written");
    assert_eq!(sha256_file(&out).expect("readable"), job.golden());
    let [Event::Paused { step, why: Why::Asked }, Event::Continued { why: Why::Asked, seconds, .. }] =
        &pauses(&events)[..]
    else {
        panic!("{events:?}")
    };
    assert!(*step == 0 && *seconds > 0.2, "{events:?}");
    assert!(outcome.paused_seconds > 0.2 && outcome.seconds > outcome.paused_seconds, "{outcome:?}");
    let worked = outcome.seconds - outcome.paused_seconds;
    assert_eq!(outcome.tokens_per_second(), outcome.tokens as f64 / worked);
}

/// A pause must not keep a run from ending.
#[test]
fn a_paused_run_can_be_stopped() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let control = Control::new();
    let later = control.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Span::from_millis(100));
        later.cancel();
    });
    let upkeep = RunOptions { control, conditions: Some(Box::new(|| Condition::Pause)), ..kept_in(folder.path()) };
    let out = folder.path().join("adapter.gguf");
    let stopped = job.run(Job::cpu(), upkeep, &out, &mut |_| ());
    assert!(matches!(stopped, Err(Error::Stopped { step: 0, .. })), "{stopped:?}");
    assert_eq!(job.run(Job::cpu(), kept_in(folder.path()), &out, &mut |_| ()).expect("goes on"), job.golden());
}

#[test]
fn a_deadline_publishes_what_is_there_and_the_rest_can_follow() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let deadline = Duration::from_millis(1200);
    let upkeep = RunOptions { deadline: Some(deadline), ..kept_in(folder.path()) };
    let mut told = Vec::new();
    let mut on_event = |event: &Event| {
        if let Event::Note { message } = event {
            told.push(message.clone());
        }
    };
    let backend = slow(Span::from_millis(110), |_| ());
    let (asked, mut engine) = (job.job(), Engine::new(&job.base, backend).expect("engine"));
    let work = train::run(&asked, &mut engine, upkeep, &mut on_event);
    let (adapter, outcome) = pollster::block_on(work).expect("ends in time");
    assert!((1..STEPS).contains(&outcome.steps) && outcome.planned_steps == STEPS, "{outcome:?}");
    assert!(told.iter().any(|note| note.contains("the time is over")), "{told:?}");
    assert!(outcome.eval_loss_after.is_some());
    let steps = adapter.metadata.iter().find(|(key, _)| key == "loam.steps").map(|(_, value)| value.clone());
    assert_eq!(steps, Some(Value::U64(outcome.steps)), "the adapter says what it is");
    let out = folder.path().join("adapter.gguf");
    adapter.write(&out).expect("written");
    AdapterFile::read(&out).expect("a whole adapter");
    assert_eq!(job.run(Job::cpu(), kept_in(folder.path()), &out, &mut |_| ()).expect("goes on"), job.golden());
}

/// Half a cosine over what there is time for: the last rate is low although most of the steps are not done.
#[test]
fn the_rate_falls_over_the_steps_that_there_is_time_for() {
    let mut job = Job::new();
    (job.options.steps, job.options.eval_every, job.options.warmup) = (Some(10_000), None, 0);
    let backend = slow(Span::from_millis(20), |_| ());
    let upkeep = RunOptions { deadline: Some(Duration::from_millis(2500)), ..RunOptions::default() };
    let (result, events) = told(&job, backend, upkeep);
    let (_, outcome) = result.expect("ends in time");
    let rates = events.iter().filter_map(|event| match event {
        Event::Step { report, .. } => Some(report.lr),
        _ => None,
    });
    let rates: Vec<f32> = rates.collect();
    assert!(outcome.steps < 200 && rates.len() > 5, "{outcome:?}");
    assert!(rates[0] > 0.9 * job.options.lr && rates[rates.len() - 1] < 0.3 * job.options.lr, "{rates:?}");
}

/// There is time for everything but one more such pause.
#[test]
fn a_pause_is_not_taken_for_the_length_of_a_step() {
    let job = Job::new();
    let control = Control::new();
    let steer = control.clone();
    let backend = slow(Span::ZERO, move |run| {
        if run == 4 {
            steer.pause();
            let later = steer.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Span::from_millis(1500));
                later.resume();
            });
        }
    });
    let upkeep = RunOptions { control, deadline: Some(Duration::from_millis(2900)), ..RunOptions::default() };
    let (result, events) = told(&job, backend, upkeep);
    let (_, outcome) = result.expect("trains");
    assert_eq!(outcome.steps, STEPS, "{events:?}");
}

#[test]
fn a_paused_run_ends_at_its_deadline() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let step = Arc::new(AtomicU32::new(0));
    let done = Arc::clone(&step);
    let backend = slow(Span::from_millis(5), move |run| step.store(run, Ordering::Relaxed));
    // After the evaluation before, the two micro-batches of a step, and the evaluation after it.
    let conditions = move || if done.load(Ordering::Relaxed) > 7 { Condition::Pause } else { Condition::Run };
    let deadline = Some(Duration::from_millis(2000));
    let upkeep = RunOptions { deadline, conditions: Some(Box::new(conditions)), ..kept_in(folder.path()) };
    let begun = Instant::now();
    let (result, events) = told(&job, backend, upkeep);
    let (_, outcome) = result.expect("ends in time");
    assert!(begun.elapsed() < Span::from_secs(6), "{:?}", begun.elapsed());
    assert!((1..STEPS).contains(&outcome.steps), "{outcome:?}");
    let [Event::Paused { why: Why::Conditions, .. }, Event::Continued { why: Why::Deadline, .. }] = pauses(&events)[..]
    else {
        panic!("{events:?}")
    };
    assert!(events.iter().any(|event| matches!(event, Event::Saved { .. })), "{events:?}");
    let out = folder.path().join("adapter.gguf");
    assert_eq!(job.run(Job::cpu(), kept_in(folder.path()), &out, &mut |_| ()).expect("goes on"), job.golden());
}

/// 30 batches of 40 ms, before and after.
#[test]
fn a_deadline_that_the_held_out_data_does_not_allow_is_told_of_at_once() {
    let job = Job { held_out: dataset(60, 50), ..Job::new() };
    let upkeep = RunOptions { deadline: Some(Duration::from_millis(1500)), ..RunOptions::default() };
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let (result, _) = told(&job, slow(Span::from_millis(40), move |run| counted.store(run, Ordering::Relaxed)), upkeep);
    let error = result.expect_err("no time");
    assert!(matches!(&error, Error::Option(error) if error.option == "deadline"), "{error}");
    let runs = runs.load(Ordering::Relaxed);
    assert!(runs < 8, "told after {runs} of 60 batches");
}

#[test]
fn an_evaluation_that_would_run_over_is_left_out() {
    let job = Job { held_out: dataset(60, 50), ..Job::new() };
    let folder = tempfile::tempdir().expect("temporary folder");
    // A device that becomes slow after the evaluation before training.
    let backend = slow(Span::ZERO, |run| std::thread::sleep(Span::from_millis(if run > 30 { 150 } else { 0 })));
    let upkeep = RunOptions { deadline: Some(Duration::from_millis(1500)), ..kept_in(folder.path()) };
    let begun = Instant::now();
    let (result, events) = told(&job, backend, upkeep);
    let (_, outcome) = result.expect("ends in time");
    assert!(begun.elapsed() < Span::from_millis(3500), "{:?} instead of 4.8 s", begun.elapsed());
    assert_eq!((outcome.steps, outcome.eval_loss_after), (1, None));
    assert_eq!((notes(&events, "after step 1 is not measured"), notes(&events, "the time is over after 1")), (1, 1));
    let golden = {
        let out = folder.path().join("peace.gguf");
        job.run(Job::cpu(), RunOptions::default(), &out, &mut |_| ()).expect("trains")
    };
    let out = folder.path().join("adapter.gguf");
    assert_eq!(job.run(Job::cpu(), kept_in(folder.path()), &out, &mut |_| ()).expect("goes on"), golden);
}

#[test]
fn where_submissions_end_changes_nothing() {
    let job = Job::short();
    for target in [Duration::from_millis(8), Duration::from_micros(1)] {
        let open = |target| back_ends_with(&Options { target, ..Options::default() });
        for ((device, whole), (_, parts)) in open(Duration::from_secs(2)).into_iter().zip(open(target)) {
            let train = |backend| {
                let upkeep = RunOptions::default();
                let mut ignore = |_: &Event| ();
                let (asked, mut engine) = (job.job(), Engine::new(&job.base, backend).expect("engine"));
                let work = train::run(&asked, &mut engine, upkeep, &mut ignore);
                pollster::block_on(work).expect("trains")
            };
            let ((whole, few), (parts, many)) = (train(whole), train(parts));
            assert_eq!(whole, parts, "{device} {target:?}");
            let (few, many) = (few.times.expect("measured"), many.times.expect("measured"));
            assert!(many.count() > 2 * (few.count() + few.unmeasured) || device == "cpu", "{device}: {few:?} {many:?}");
            assert!(many.count() > 0 && many.unmeasured <= many.count(), "{device}: {many:?}");
        }
    }
}
