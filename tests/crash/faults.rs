//! The N-th call on the disk fails, for every N until a run has no such call: the run ends with the right adapter or
//! with an error, and whatever is left, the next one ends with the right adapter.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use loam::Error;
use loam::file::disk::{self, Call, Verdict};
use loam::train::{Control, Event, RunOptions};

use crate::job::{Job, kept_in};

/// What happens to the N-th call, and to those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It fails; the others do not.
    Once(io::ErrorKind),
    /// It fails, and so does everything after it.
    ForGood(io::ErrorKind),
    /// Every write from it on takes a few bytes only.
    Short,
    /// A write takes a few bytes, and the process is no more.
    Torn,
    /// The process is no more.
    Kill,
}

impl Fault {
    fn verdict(self, first: bool, call: &Call<'_>) -> Verdict {
        let gone = || Verdict::Fail(io::Error::other("the process is no more"));
        let part = |bytes: usize| Verdict::Short(bytes.div_ceil(3).max(1));
        match (self, call) {
            (Fault::Once(kind), _) if first => Verdict::Fail(kind.into()),
            (Fault::Once(_), _) => Verdict::Go,
            (Fault::ForGood(kind), _) => Verdict::Fail(kind.into()),
            (Fault::Short, Call::Write(_, bytes)) => part(bytes.len()),
            (Fault::Short, _) => Verdict::Go,
            (Fault::Torn, Call::Write(_, bytes)) if first => part(bytes.len()),
            (Fault::Torn | Fault::Kill, _) => gone(),
        }
    }
}

/// What call `number` was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hit {
    /// There was none.
    Nothing,
    /// It read a checkpoint.
    Reading,
    Else,
}

/// Runs `job` in `folder` with a fault at call `number`, and says what that was.
fn run_with(job: &Job, folder: &Path, fault: Fault, number: u64) -> (Hit, loam::Result<String>) {
    let control = Control::new();
    let hit = Rc::new(Cell::new(Hit::Nothing));
    let (noted, stop, mut count) = (Rc::clone(&hit), control.clone(), 0);
    let watched = disk::watch(move |call| {
        count += 1;
        if count < number {
            return Verdict::Go;
        }
        if count == number {
            let checkpoint = |path: &Path| path.to_string_lossy().contains("checkpoint-");
            let reads = matches!(call, Call::Open(path) | Call::Read(path) if checkpoint(path));
            noted.set(if reads { Hit::Reading } else { Hit::Else });
        }
        if matches!(fault, Fault::Torn | Fault::Kill) {
            // Nothing of what it would still do can be seen; this saves the time.
            stop.cancel();
        }
        fault.verdict(count == number, call)
    });
    let upkeep = RunOptions { control, ..kept_in(folder) };
    let result = job.run(Job::cpu(), upkeep, &folder.join("adapter.gguf"), &mut |_| ());
    drop(watched);
    (hit.get(), result)
}

fn every_call(fault: Fault) {
    let job = Job::new();
    let (mut failed, mut number) = (0, 1);
    loop {
        let folder = tempfile::tempdir().expect("temporary folder");
        let out = folder.path().join("adapter.gguf");
        std::fs::write(&out, "the adapter of before").expect("written");
        let (hit, result) = run_with(&job, folder.path(), fault, number);
        match &result {
            Ok(digest) => assert_eq!(*digest, job.golden(), "{fault:?} at {number}"),
            Err(_) => {
                failed += 1;
                let left = std::fs::read(&out).expect("readable");
                // The last call flushes the folder: the new adapter is in place then.
                let new = loam::digest::sha256_hex(&left) == job.golden();
                assert!(new || left == b"the adapter of before", "{fault:?} at {number}: half an adapter");
            }
        }
        if hit == Hit::Nothing {
            assert!(result.is_ok());
            break;
        }
        let digest = job.run(Job::cpu(), kept_in(folder.path()), &out, &mut |_| ());
        let digest = digest.unwrap_or_else(|error| panic!("{fault:?} at {number}: {}", error.chain()));
        assert_eq!(digest, job.golden(), "{fault:?} at {number}");
        let left = std::fs::read_dir(folder.path().join("state")).expect("folder").count();
        assert_eq!(left, 2, "{fault:?} at {number} leaves something");
        number += 1;
    }
    assert!(number > 30, "{number} calls");
    assert_eq!(failed > 0, fault != Fault::Short, "{failed} runs failed");
}

/// As [`every_call`] for a run that continues from two generations: neither may be lost because it could not be read.
fn every_call_of_a_resume(fault: Fault) {
    let job = Job::new();
    let begun = tempfile::tempdir().expect("temporary folder");
    stop_after(&job, begun.path(), 2);
    let names = names(begun.path());
    assert_eq!(names, ["checkpoint-00000002.gguf", "checkpoint-00000003.gguf"]);
    let (mut readings, mut number) = (0, 1);
    loop {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir(folder.path().join("state")).expect("made");
        for name in &names {
            let path = Path::new("state").join(name);
            std::fs::copy(begun.path().join(&path), folder.path().join(&path)).expect("copied");
        }
        let out = folder.path().join("adapter.gguf");
        let (hit, result) = run_with(&job, folder.path(), fault, number);
        if hit == Hit::Reading {
            readings += 1;
            assert!(
                matches!(result, Err(Error::File(loam_files::Error::Io { .. }))),
                "{fault:?} at {number}: {result:?}"
            );
            assert_eq!(
                self::names(folder.path()),
                names,
                "{fault:?} at {number}: a file that could not be read is gone"
            );
        }
        let newest = self::names(folder.path()).pop();
        assert!(newest >= names.last().cloned(), "{fault:?} at {number}: {newest:?} is left");
        let digest = job.run(Job::cpu(), kept_in(folder.path()), &out, &mut |_| ());
        let digest = digest.unwrap_or_else(|error| panic!("{fault:?} at {number}: {}", error.chain()));
        assert_eq!(digest, job.golden(), "{fault:?} at {number}");
        if hit == Hit::Nothing {
            assert!(result.is_ok());
            break;
        }
        number += 1;
    }
    assert!(number > 20 && readings > 2, "{number} calls, {readings} of them read");
}

/// Trains until `steps` steps are done.
fn stop_after(job: &Job, folder: &Path, steps: u64) {
    let control = Control::new();
    let stop = control.clone();
    let mut on_event = move |event: &Event| {
        if matches!(event, Event::Saved { step, .. } if *step == steps) {
            stop.cancel();
        }
    };
    let upkeep = RunOptions { control, ..kept_in(folder) };
    let stopped = job.run(Job::cpu(), upkeep, &folder.join("adapter.gguf"), &mut on_event);
    assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
}

/// Names of the checkpoints, the oldest first.
fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder.join("state")).expect("folder");
    let mut names: Vec<String> =
        names.map(|entry| entry.expect("entry").file_name().into_string().expect("a name")).collect();
    names.retain(|name| name.ends_with(".gguf"));
    names.sort();
    names
}

#[test]
fn an_input_output_error_once_of_a_run_that_goes_on() {
    every_call_of_a_resume(Fault::Once(io::ErrorKind::Other));
}

#[test]
fn an_input_output_error_for_good_of_a_run_that_goes_on() {
    every_call_of_a_resume(Fault::ForGood(io::ErrorKind::Other));
}

#[test]
fn a_kill_before_any_call_of_a_run_that_goes_on() {
    every_call_of_a_resume(Fault::Kill);
}

#[test]
fn an_input_output_error_once() {
    every_call(Fault::Once(io::ErrorKind::Other));
}

#[test]
fn an_input_output_error_for_good() {
    every_call(Fault::ForGood(io::ErrorKind::Other));
}

#[test]
fn a_full_disk_for_a_moment() {
    every_call(Fault::Once(io::ErrorKind::StorageFull));
}

#[test]
fn a_full_disk_for_good() {
    every_call(Fault::ForGood(io::ErrorKind::StorageFull));
}

#[test]
fn short_writes() {
    every_call(Fault::Short);
}

#[test]
fn a_kill_within_a_write() {
    every_call(Fault::Torn);
}

#[test]
fn a_kill_before_any_call() {
    every_call(Fault::Kill);
}
