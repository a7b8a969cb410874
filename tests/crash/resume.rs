//! Stopped from outside at every point of a run, and gone on with.

use std::fs;

use loam::Error;
use loam::backend::cpu::CpuBackend;
use loam::problem::CheckpointProblem;
use loam::train::{Control, Event, RunOptions};
use loam_tests::Watched;
use loam_tests::watched::Call;

use crate::job::{Job, STEPS, kept_in};

/// Runs `job` until `control` is told to stop it, after `runs` programs.
fn stopped_behind(job: &Job, folder: &std::path::Path, runs: u32) -> loam::Result<String> {
    let control = Control::new();
    let (mut count, stop) = (0, control.clone());
    let backend = Watched::new(CpuBackend::new(Some(1)).expect("cpu back end"), move |_, call| {
        count += u32::from(call == Call::Run);
        if count > runs {
            stop.cancel();
        }
        Ok(())
    });
    let upkeep = RunOptions { control, ..kept_in(folder) };
    job.run(Box::new(backend), upkeep, &folder.join("adapter.gguf"), &mut |_| ())
}

/// Stops `job` after every program, each time in a new folder, and continues it. Returns how many programs it has.
fn stopped_anywhere(job: &Job, golden: &str) -> u32 {
    for runs in 0.. {
        let folder = tempfile::tempdir().expect("temporary folder");
        match stopped_behind(job, folder.path(), runs) {
            // The last program has run: nothing was left to stop.
            Ok(digest) => {
                assert_eq!(digest, golden);
                return runs;
            }
            Err(Error::Stopped { step, steps: STEPS, checkpoint: Some(path) }) => {
                assert!(step <= STEPS && path.is_file());
            }
            Err(error) => panic!("after {runs} programs: {error}"),
        }
        assert!(!folder.path().join("adapter.gguf").exists());
        let mut resumed = None;
        let mut on_event = |event: &Event| match event {
            Event::Resumed { step, .. } => resumed = Some(*step),
            Event::Note { message } => panic!("{message}"),
            _ => {}
        };
        let digest = job.run(Job::cpu(), kept_in(folder.path()), &folder.path().join("adapter.gguf"), &mut on_event);
        assert_eq!(digest.expect("goes on"), golden, "stopped after {runs} programs");
        assert!(resumed.is_some());
    }
    unreachable!("every run has an end")
}

#[test]
fn a_run_stopped_anywhere_goes_on_to_the_same_adapter() {
    let job = Job::new();
    let programs = stopped_anywhere(&job, &job.golden());
    assert!(programs > 20, "{programs} programs for {STEPS} steps with evaluations");
}

/// With weights that depend on log-probabilities, and on those of the model without adapter.
#[test]
fn runs_of_other_objectives_have_the_same_bits_twice_and_stopped_anywhere() {
    for (name, programs) in [("dft", 20), ("dpo", 20)] {
        let mut job = Job::named(name);
        let golden = job.undisturbed();
        assert_eq!(job.undisturbed(), golden, "{name}");
        assert!(stopped_anywhere(&job, &golden) > programs, "{name}");
        // Judged by the rows of the last step.
        job.held_out.examples.clear();
        assert!(stopped_anywhere(&job, &job.undisturbed()) > programs / 2, "{name}");
    }
}

/// The end of such a run puts what it started from on the device for a moment.
#[test]
fn a_run_without_held_out_data_stopped_anywhere_goes_on_to_the_same_adapter() {
    let mut job = Job::new();
    job.held_out.examples.clear();
    let folder = tempfile::tempdir().expect("temporary folder");
    let golden = job.run(Job::cpu(), RunOptions::default(), &folder.path().join("adapter.gguf"), &mut |_| ());
    let programs = stopped_anywhere(&job, &golden.expect("trains"));
    assert!(programs > 10, "{programs} programs for {STEPS} steps");
}

/// As on a machine that is never left in peace for long.
#[test]
fn a_run_stopped_again_and_again_ends_with_the_same_adapter() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut stops = 0;
    let digest = loop {
        // Three programs at a time: an evaluation has two, and a stopped one starts over.
        match stopped_behind(&job, folder.path(), 2) {
            Ok(digest) => break digest,
            Err(Error::Stopped { .. }) => stops += 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(digest, job.golden());
    assert!(stops > 5, "{stops} stops");
}

#[test]
fn two_generations_are_kept_and_the_finished_run_can_be_asked_again() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("adapter.gguf");
    let mut saved = Vec::new();
    let mut on_event = |event: &Event| {
        if let Event::Saved { step, path } = event {
            saved.push((*step, path.clone()));
        }
    };
    assert_eq!(job.run(Job::cpu(), kept_in(folder.path()), &out, &mut on_event).expect("trains"), job.golden());
    assert_eq!(saved.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let mut left: Vec<_> =
        fs::read_dir(folder.path().join("state")).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    left.sort();
    assert_eq!(left, [saved[2].1.clone(), saved[3].1.clone()]);
    fs::remove_file(&out).expect("removed");
    assert_eq!(job.run(Job::cpu(), kept_in(folder.path()), &out, &mut |_| ()).expect("again"), job.golden());
}

#[test]
fn another_run_is_refused_by_name_and_a_forgotten_option_loses_nothing() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("adapter.gguf");
    assert!(stopped_behind(&job, folder.path(), 9).is_err());
    let refused = |job: &Job, expected: &str| match job.run(Job::cpu(), kept_in(folder.path()), &out, &mut |_| ()) {
        Err(Error::CheckpointMismatch { what, .. }) => assert_eq!(what, expected),
        other => panic!("{expected}: {other:?}"),
    };
    let mut other = Job::new();
    other.options.lr = 2e-2;
    refused(&other, "lr");
    let mut other = Job::new();
    other.options.adapter.rank = 4;
    refused(&other, "rank");
    let mut other = Job::new();
    other.options.optimizer = "adamw_8bit".parse().expect("known");
    refused(&other, "optimizer");
    let mut other = Job::new();
    other.data.digest = "changed".into();
    refused(&other, "data");
    let mut other = Job::new();
    other.data.examples[0].tokens[1] += 1;
    refused(&other, "examples");
    let mut other = Job::new();
    other.held_out.examples.pop();
    refused(&other, "held_out");
    let mut upkeep = kept_in(folder.path());
    upkeep.checkpoints.iter_mut().for_each(|checkpoints| checkpoints.resume = false);
    let error = job.run(Job::cpu(), upkeep, &out, &mut |_| ()).expect_err("a checkpoint is there");
    assert!(matches!(&error, Error::Checkpoint { problem: CheckpointProblem::NotAsked, .. }), "{error}");
    assert_eq!(job.run(Job::cpu(), kept_in(folder.path()), &out, &mut |_| ()).expect("goes on"), job.golden());
}

#[test]
fn one_run_at_a_time_uses_a_folder() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("adapter.gguf");
    let mut tried = 0;
    let mut on_event = |event: &Event| {
        if let Event::Saved { .. } = event {
            match job.run(Job::cpu(), kept_in(folder.path()), &folder.path().join("other.gguf"), &mut |_| ()) {
                Err(Error::File(loam_files::Error::Io { source, .. })) => {
                    assert_eq!(source.kind(), std::io::ErrorKind::ResourceBusy)
                }
                other => panic!("{other:?}"),
            }
            tried += 1;
        }
    };
    job.run(Job::cpu(), kept_in(folder.path()), &out, &mut on_event).expect("trains");
    assert_eq!(tried, STEPS);
}
