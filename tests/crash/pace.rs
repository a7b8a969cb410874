//! Slowly, with pauses, in time: the adapter is the same. Times are bounded from below only, or generously: the machine
//! has other things to do.

use std::time::{Duration as Span, Instant};

use embassy_time::Duration;
use loam::AdapterFile;
use loam::backend::Backend;
use loam::backend::cpu::CpuBackend;
use loam::gguf::Value;
use loam::train::{self, Condition, Control, Event, Upkeep};
use loam_tests::watched::Call;
use loam_tests::{Watched, back_ends};

use crate::job::{Job, STEPS, kept_in};

/// A device whose programs take at least `work`, and that calls `at_run` with their number.
fn slow(work: Span, mut at_run: impl FnMut(u32) + 'static) -> Box<dyn Backend> {
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

#[test]
fn a_quarter_of_the_time() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let begun = Instant::now();
    let backend = slow(Span::from_millis(12), |_| ());
    let upkeep = Upkeep { duty: 0.25, ..Upkeep::default() };
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
    let upkeep = Upkeep { conditions: Some(Box::new(conditions)), ..Upkeep::default() };
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
        if run == 6 {
            steer.pause();
            let later = steer.clone();
            std::thread::spawn(move || {
                std::thread::sleep(wait);
                later.resume();
            });
        }
    });
    let begun = Instant::now();
    let upkeep = Upkeep { control, ..Upkeep::default() };
    let digest = job.run(backend, upkeep, &folder.path().join("adapter.gguf"), &mut |_| ()).expect("trains");
    assert!(begun.elapsed() > wait, "{:?}", begun.elapsed());
    assert_eq!(digest, job.golden());
}

/// A pause must not keep a run from ending.
#[test]
fn a_paused_run_can_be_stopped() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let control = Control::new();
    let steer = control.clone();
    let backend = slow(Span::ZERO, move |run| {
        if run == 1 {
            let later = steer.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Span::from_millis(100));
                later.cancel();
            });
        }
    });
    let upkeep = Upkeep { control, conditions: Some(Box::new(|| Condition::Pause)), ..kept_in(folder.path()) };
    let out = folder.path().join("adapter.gguf");
    let stopped = job.run(backend, upkeep, &out, &mut |_| ());
    assert!(matches!(stopped, Err(loam::Error::Stopped { step: 0, .. })), "{stopped:?}");
    assert_eq!(job.run(Job::cpu(), kept_in(folder.path()), &out, &mut |_| ()).expect("goes on"), job.golden());
}

#[test]
fn a_deadline_publishes_what_is_there_and_the_rest_can_follow() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let deadline = Duration::from_millis(420);
    let upkeep = Upkeep { deadline: Some(deadline), ..kept_in(folder.path()) };
    let data = (&job.data, Some(&job.held_out));
    let mut told = Vec::new();
    let mut on_event = |event: &Event| {
        if let Event::Note { message } = event {
            told.push(message.clone());
        }
    };
    let backend = slow(Span::from_millis(40), |_| ());
    let work = train::run_with(&job.base, backend, None, data, job.options.clone(), upkeep, &mut on_event);
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

#[test]
fn where_submissions_end_changes_nothing() {
    let job = Job::short();
    let data = (&job.data, Some(&job.held_out));
    for target in [Duration::from_millis(8), Duration::from_micros(1)] {
        for ((device, backend), (_, other)) in back_ends().into_iter().zip(back_ends()) {
            let train = |backend, target| {
                let upkeep = Upkeep { target, ..Upkeep::default() };
                let mut ignore = |_: &Event| ();
                let work = train::run_with(&job.base, backend, None, data, job.options.clone(), upkeep, &mut ignore);
                pollster::block_on(work).expect("trains")
            };
            let ((whole, few), (parts, many)) = (train(backend, Duration::from_secs(2)), train(other, target));
            assert_eq!(whole, parts, "{device} {target:?}");
            let (few, many) = (few.times.expect("measured"), many.times.expect("measured"));
            assert!(many.count() > 2 * (few.count() + few.unmeasured) || device == "cpu", "{device}: {few:?} {many:?}");
            assert!(many.count() > 0 && many.unmeasured <= many.count(), "{device}: {many:?}");
        }
    }
}
