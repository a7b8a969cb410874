//! A device that is lost after any call or submission, and one that has not enough memory.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::path::Path;
use std::rc::Rc;

use embassy_time::Duration;
use loam::backend::cpu::CpuBackend;
use loam::backend::wgpu::{Adapter, Checks, WgpuBackend, adapters};
use loam::backend::{Backend, Kind, Options};
use loam::plan::Checkpointing;
use loam::train::{Event, RunOptions};
use loam::{AdapterFile, Error, Result};
use loam_tests::watched::{Call, full, lost};
use loam_tests::{Watched, flat, relative};

use crate::job::{Job, kept_in};

/// A CPU that says it is something which can be lost.
fn watched(ask: impl FnMut(&mut CpuBackend, Call) -> Result<()> + Send + 'static) -> Box<dyn Backend> {
    let mut backend = Watched::new(CpuBackend::new(Some(1)).expect("cpu back end"), ask);
    backend.info.kind = Kind::Other;
    Box::new(backend)
}

/// Trains on `first`, and after a loss on what `reopen` gives; the digest and what was told.
fn rescued(
    job: &Job,
    first: Box<dyn Backend>,
    reopen: impl FnMut() -> Result<Box<dyn Backend>> + 'static,
    (folder, upkeep): (&Path, RunOptions),
) -> (Result<String>, Vec<String>) {
    let (mut notes, mut steps) = (Vec::new(), Vec::new());
    let mut on_event = |event: &Event| match event {
        Event::Note { message } => notes.push(message.clone()),
        Event::Step { step, .. } => steps.push(*step),
        _ => {}
    };
    let upkeep = RunOptions { reopen: Some(Box::new(reopen)), ..upkeep };
    let digest = job.run(first, upkeep, &folder.join("adapter.gguf"), &mut on_event);
    assert!(steps.iter().copied().eq(1..=steps.len() as u64), "each step is told of once: {steps:?}");
    (digest, notes)
}

/// A watcher that fails once, at call `number` of the kinds that `of` picks.
fn once(
    number: u64,
    of: fn(Call) -> bool,
    error: fn() -> Error,
) -> impl FnMut(&mut CpuBackend, Call) -> Result<()> + Send {
    let mut count = 0;
    move |_, call| {
        count += u64::from(of(call));
        if of(call) && count == number { Err(error()) } else { Ok(()) }
    }
}

#[test]
fn a_device_lost_at_any_call_is_opened_again() {
    let job = Job::new();
    lost_at_any_call(&job, &job.golden());
}

/// The end of such a run puts what it started from on the device for a moment.
#[test]
fn a_device_lost_at_any_call_without_held_out_data_is_opened_again() {
    let mut job = Job::new();
    job.held_out.examples.clear();
    let folder = tempfile::tempdir().expect("temporary folder");
    let golden = job.run(Job::cpu(), RunOptions::default(), &folder.path().join("adapter.gguf"), &mut |_| ());
    lost_at_any_call(&job, &golden.expect("trains"));
}

fn lost_at_any_call(job: &Job, golden: &str) {
    let folder = tempfile::tempdir().expect("temporary folder");
    // Every call at first, then some: a run has hundreds.
    let mut number = 1;
    loop {
        let first = watched(once(number, |_| true, lost));
        let reopen = || Ok(watched(|_, _| Ok(())));
        let (digest, notes) = rescued(job, first, reopen, (folder.path(), RunOptions::default()));
        assert_eq!(digest.expect("rescued"), golden, "lost at call {number}");
        if notes.is_empty() {
            break;
        }
        assert!(notes.len() == 1 && notes[0].contains("opened again"), "{notes:?}");
        number += if number < 60 { 1 } else { 7 };
    }
    assert!(number > 100, "{number} calls");
}

#[test]
fn a_device_that_is_lost_again_and_again_ends_the_run_with_a_checkpoint() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let opened = Rc::new(Cell::new(0));
    let count = Rc::clone(&opened);
    let dying = |run| watched(once(run, |call| call == Call::Run, lost));
    let reopen = move || {
        count.set(count.get() + 1);
        Ok(dying(2))
    };
    let mut upkeep = kept_in(folder.path());
    // None is due by itself.
    upkeep.checkpoints.iter_mut().for_each(|checkpoints| checkpoints.every = NonZeroU64::MAX);
    let (result, notes) = rescued(&job, dying(9), reopen, (folder.path(), upkeep));
    assert!(matches!(result, Err(Error::DeviceLost { .. })), "{result:?}");
    assert_eq!((opened.get(), notes.len()), (3, 4), "{notes:?}");
    let mut resumed = None;
    let mut on_event = |event: &Event| {
        if let Event::Resumed { step, .. } = event {
            resumed = Some(*step);
        }
    };
    let out = folder.path().join("adapter.gguf");
    assert_eq!(job.run(Job::cpu(), kept_in(folder.path()), &out, &mut on_event).expect("goes on"), job.golden());
    assert!(resumed.is_some_and(|step| step > 0), "{resumed:?}");
}

#[test]
fn another_device_is_no_rescue() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let reopen = || {
        let mut other = Watched::new(CpuBackend::new(Some(1))?, |_, _| Ok(()));
        other.info.name = "another".into();
        let other: Box<dyn Backend> = Box::new(other);
        Ok(other)
    };
    let first = watched(once(5, |call| call == Call::Run, lost));
    let (result, _) = rescued(&job, first, reopen, (folder.path(), RunOptions::default()));
    assert!(matches!(result, Err(Error::DeviceLost { .. })), "{result:?}");
}

#[test]
fn without_memory_layers_are_computed_again() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    for call in [Call::Allocate, Call::Compile] {
        let mut count = 0;
        let first = watched(move |_, made| {
            count += u32::from(made == call);
            if made == call && count == 2 { Err(full()) } else { Ok(()) }
        });
        let reopen = || Ok(watched(|_, _| Ok(())));
        let (result, notes) = rescued(&job, first, reopen, (folder.path(), RunOptions::default()));
        assert_eq!(result.expect("trains"), job.golden(), "checkpointing changes no bit");
        assert!(notes.len() == 1 && notes[0].contains("layers are computed again"), "{notes:?}");
    }
}

#[test]
fn without_memory_micro_batches_get_smaller() {
    let mut job = Job::new();
    job.options.checkpointing = Some(Checkpointing::Layers);
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("adapter.gguf");
    job.run(Job::cpu(), RunOptions::default(), &out, &mut |_| ()).expect("trains");
    let expected = values(&out);
    let allocates = |call| matches!(call, Call::Allocate | Call::Compile);
    let mut number = 1;
    loop {
        let first = watched(once(number, allocates, full));
        let reopen = || Ok(watched(|_, _| Ok(())));
        let (result, notes) = rescued(&job, first, reopen, (folder.path(), RunOptions::default()));
        result.unwrap_or_else(|error| panic!("at allocation {number}: {error}"));
        // The same rows in other micro-batches: sums in another order.
        assert!(relative(&values(&out), &expected) < 1e-4, "at allocation {number}");
        if notes.is_empty() {
            break;
        }
        assert!(notes.len() == 1 && notes[0].contains("micro-batches have 1 of 2 rows"), "{notes:?}");
        number += 1;
    }
    assert!(number > 10, "{number} allocations");
    // One row at a time is the end of it.
    let opened = Rc::new(Cell::new(0));
    let counted = Rc::clone(&opened);
    let reopen = move || {
        counted.set(counted.get() + 1);
        Ok(watched(once(3, |call| call == Call::Allocate, full)))
    };
    let first = watched(once(3, |call| call == Call::Allocate, full));
    let (result, _) = rescued(&job, first, reopen, (folder.path(), RunOptions::default()));
    assert!(matches!(result, Err(Error::OutOfMemory { .. })), "{result:?}");
    assert_eq!(opened.get(), 1);
}

/// What is drawn for a row goes by its number in the step: dropout and noise are those of the run that was asked for.
#[test]
fn smaller_micro_batches_have_the_same_masks_and_noise() {
    let allocates = |call| matches!(call, Call::Allocate | Call::Compile);
    for grouped in [false, true] {
        let mut job = Job::new();
        (job.options.dropout, job.options.neftune_noise_alpha) = (0.3, 5.0);
        job.options.checkpointing = Some(Checkpointing::Layers);
        (job.options.group_by_length, job.options.context) = (grouped, if grouped { 64 } else { 8 });
        let folder = tempfile::tempdir().expect("temporary folder");
        let out = folder.path().join("adapter.gguf");
        job.run(Job::cpu(), RunOptions::default(), &out, &mut |_| ()).expect("trains");
        let expected = values(&out);
        let reopen = || Ok(watched(|_, _| Ok(())));
        let first = watched(once(1, allocates, full));
        let (result, notes) = rescued(&job, first, reopen, (folder.path(), RunOptions::default()));
        assert!(result.is_ok() && notes[0].contains("micro-batches have 1 of 2 rows"), "{result:?}: {notes:?}");
        let difference = relative(&values(&out), &expected);
        assert!(difference < 1e-4, "grouped: {grouped}: {difference}");
        // Another seed's masks show: the comparison would find them.
        job.options.seed = 1;
        job.options.shuffle = false;
        job.run(Job::cpu(), RunOptions::default(), &out, &mut |_| ()).expect("trains");
        assert!(relative(&values(&out), &expected) > 1e-2);
    }
}

/// A and B of all layers.
fn values(adapter: &Path) -> Vec<f32> {
    flat(&AdapterFile::read(adapter).expect("an adapter"))
}

fn open(adapter: &Adapter) -> WgpuBackend {
    // A program is one submission: as few as can be, all of them tried.
    let options = Options { target: Duration::from_secs(2), ..Options::default() };
    pollster::block_on(WgpuBackend::open(adapter.clone(), &options, Checks::Off)).expect("the adapter opens")
}

#[test]
fn a_gpu_lost_behind_any_submission_is_opened_again() {
    let Some(adapter) = pollster::block_on(adapters()).into_iter().next() else {
        loam_tests::skipped("no adapter");
        return;
    };
    let job = Job::short();
    let folder = tempfile::tempdir().expect("temporary folder");
    let upkeep = RunOptions::default;
    let golden = job.run(Box::new(open(&adapter)), upkeep(), &folder.path().join("golden.gguf"), &mut |_| ());
    let golden = golden.expect("trains");
    let mut number = 1;
    loop {
        let mut first = open(&adapter);
        first.destroy_after(number);
        let again = adapter.clone();
        let reopen = move || -> Result<Box<dyn Backend>> { Ok(Box::new(open(&again))) };
        let (digest, notes) = rescued(&job, Box::new(first), reopen, (folder.path(), upkeep()));
        assert_eq!(digest.expect("rescued"), golden, "lost behind submission {number}");
        if notes.is_empty() {
            break;
        }
        assert!(notes.len() == 1 && notes[0].contains("was lost"), "{notes:?}");
        number += 1;
    }
    assert!(number > 15, "{number} submissions");
}
