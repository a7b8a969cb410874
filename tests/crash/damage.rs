//! Checkpoints with flipped bits, cut short, or emptied: always found, and the one before is used.

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use loam::train::checkpoint::{Generations, open, seal};
use loam::train::{Checkpoints, Event};
use loam::{Error, Result};
use loam_tests::Random;

use crate::job::{Job, STEPS, kept_in};

/// A finished run's two generations, the older first.
fn generations(job: &Job, folder: &Path) -> [PathBuf; 2] {
    job.run(Job::cpu(), kept_in(folder), &folder.join("adapter.gguf"), &mut |_| ()).expect("trains");
    [3, 4].map(|number| folder.join(format!("state/checkpoint-{number:08}.gguf")))
}

/// The step that a run in `folder` would continue after, and what was wrong with newer checkpoints.
fn found(job: &Job, folder: &Path) -> Result<(Option<u64>, Vec<String>)> {
    let request = Checkpoints { folder: folder.join("state"), every: NonZeroU64::MIN, resume: true };
    let (_, (found, problems)) = Generations::open(&request, job.base.config().architecture, job.identity())?;
    Ok((found.map(|(_, state)| state.progress.outcome.steps), problems))
}

#[test]
fn every_flipped_bit_is_found() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let [_, newest] = generations(&job, folder.path());
    let sound = fs::read(&newest).expect("readable");
    assert!(open(&newest).is_ok());
    let mut random = Random::new(11);
    let changed = folder.path().join("changed.gguf");
    // All of the declarations, then one byte in five: a digest does not care where.
    let places = (0..sound.len()).filter(|place| *place < 6000 || place % 5 == 0);
    for place in places {
        let mut bytes = sound.clone();
        bytes[place] ^= 1 << random.below(8);
        fs::write(&changed, &bytes).expect("written");
        assert!(open(&changed).is_err(), "a changed byte {place} of {} went unnoticed", sound.len());
    }
}

#[test]
fn every_truncation_is_found() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let [_, newest] = generations(&job, folder.path());
    let sound = fs::read(&newest).expect("readable");
    let changed = folder.path().join("changed.gguf");
    for length in (0..sound.len()).filter(|length| *length < 300 || length % 61 == 0 || sound.len() - length < 40) {
        fs::write(&changed, &sound[..length]).expect("written");
        assert!(open(&changed).is_err(), "{length} of {} bytes are taken for all", sound.len());
    }
    fs::write(&changed, [&sound[..], &[0]].concat()).expect("written");
    assert!(open(&changed).is_err(), "a byte too much");
}

#[test]
fn a_damaged_generation_is_told_of_and_the_one_before_is_used() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let [older, newest] = generations(&job, folder.path());
    let (good, sound) = (fs::read(&older).expect("readable"), fs::read(&newest).expect("readable"));
    assert_eq!(found(&job, folder.path()).expect("sound"), (Some(STEPS), Vec::new()));
    for damage in [&sound[..sound.len() / 2], &[], &good[..10], b"GGUF and something else"] {
        fs::write(&newest, damage).expect("written");
        let (step, problems) = found(&job, folder.path()).expect("the older one is whole");
        assert_eq!(step, Some(STEPS - 1));
        assert!(problems.len() == 1 && problems[0].contains("checkpoint-00000004.gguf"), "{problems:?}");
    }
    let mut told = Vec::new();
    let mut on_event = |event: &Event| match event {
        Event::Note { message } => told.push(message.clone()),
        Event::Resumed { step, .. } => assert_eq!(*step, STEPS - 1),
        _ => {}
    };
    let out = folder.path().join("adapter.gguf");
    assert_eq!(job.run(Job::cpu(), kept_in(folder.path()), &out, &mut on_event).expect("goes on"), job.golden());
    assert!(told.len() == 1 && told[0].contains("an older checkpoint is"), "{told:?}");
    // The damaged file has made room; what is left is whole.
    assert!(!newest.exists() && older.exists());
    assert_eq!(found(&job, folder.path()).expect("sound"), (Some(STEPS), Vec::new()));
}

#[test]
fn if_nothing_is_whole_that_is_an_error_and_nothing_is_lost() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    for path in generations(&job, folder.path()) {
        let mut bytes = fs::read(&path).expect("readable");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).expect("written");
    }
    let error = found(&job, folder.path()).expect_err("nothing to go on from");
    let text = error.to_string();
    assert!(
        matches!(error, Error::Checkpoint { .. }) && text.contains("00000003") && text.contains("00000004"),
        "{text}"
    );
    assert_eq!(fs::read_dir(folder.path().join("state")).expect("folder").count(), 2);
}

/// After a right digest: a checkpoint that somebody made, not a disk.
#[test]
fn sealed_nonsense_is_a_typed_error() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let [older, newest] = generations(&job, folder.path());
    fs::remove_file(older).expect("removed");
    let sound = fs::read(&newest).expect("readable");
    let at =
        |key: &str| sound.windows(key.len()).position(|window| window == key.as_bytes()).expect(key) + key.len() + 4;
    // Values of u64 keys in the order of the file.
    for (key, value) in [
        ("loam.progress.batch", 0u64),
        ("loam.progress.batch", u64::MAX),
        ("loam.progress.micro", 3),
        ("loam.progress.micro", u64::MAX),
        ("loam.progress.steps", STEPS + 1),
        ("loam.progress.updates", u64::MAX),
        ("loam.progress.evaluated", u64::MAX),
    ] {
        let mut bytes = sound.clone();
        bytes[at(key)..][..8].copy_from_slice(&value.to_le_bytes());
        seal(&mut bytes);
        fs::write(&newest, bytes).expect("written");
        match job.run(Job::cpu(), kept_in(folder.path()), &folder.path().join("out.gguf"), &mut |_| ()) {
            Err(Error::Checkpoint { .. }) => {}
            other => panic!("{key} = {value}: {other:?}"),
        }
    }
    let mut bytes = sound;
    seal(&mut bytes);
    fs::write(&newest, bytes).expect("written");
    assert!(open(&newest).is_ok(), "sealing a sound file changes nothing");
}
