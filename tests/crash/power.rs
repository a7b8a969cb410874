//! Power cuts. What is on the disk then is what was flushed, and of the rest anything: bytes that were written or not
//! or half, names that were changed or not. Every prefix of what a run did is tried with all of these.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use loam::file::disk::{self, Call, Verdict};
use loam::file::sha256_hex;
use loam::train::Checkpoints;
use loam::train::checkpoint::Generations;

use crate::job::{Job, STEPS, kept_in};

/// What was done. Files are known by the order in which they were made.
#[derive(Debug, Clone)]
enum Done {
    Write(usize, Vec<u8>),
    Sync(usize),
    /// A change of names, which a flush of the folder makes durable.
    Names(Change),
    SyncFolder,
}

#[derive(Debug, Clone)]
enum Change {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

/// Names and the files that they are of.
type Names = BTreeMap<PathBuf, usize>;

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Change::Create(path, file) => drop(names.insert(path.clone(), *file)),
            Change::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Change::Remove(path) => drop(names.remove(path)),
        }
    }
}

/// Notes what a run does.
#[derive(Default)]
struct Recording {
    done: Vec<Done>,
    names: Names,
    files: usize,
}

impl Recording {
    fn note(&mut self, call: &Call<'_>) {
        let done = match *call {
            Call::Create(path) if self.names.contains_key(path) => return,
            Call::Create(path) => {
                self.files += 1;
                Done::Names(Change::Create(path.into(), self.files - 1))
            }
            Call::Write(path, bytes) => Done::Write(self.names[path], bytes.to_vec()),
            Call::Sync(path) => Done::Sync(self.names[path]),
            Call::Rename(from, to) => Done::Names(Change::Rename(from.into(), to.into(), self.names[from])),
            Call::SyncFolder(_) => Done::SyncFolder,
            Call::Remove(path) => Done::Names(Change::Remove(path.into())),
            Call::CreateFolder(_) | Call::Open(_) | Call::Read(_) | Call::List(_) => return,
        };
        if let Done::Names(change) = &done {
            change.apply(&mut self.names);
        }
        self.done.push(done);
    }
}

/// What of the bytes that were not flushed is there.
#[derive(Debug, Clone, Copy)]
enum Bytes {
    All,
    Half,
    None,
}

/// The disk after `done`, if of the name changes that were not flushed those in `kept` happened (a bit each).
fn after(done: &[Done], kept: usize, unflushed: Bytes) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files: BTreeMap<usize, (Vec<u8>, usize)> = BTreeMap::new();
    let (mut names, mut pending) = (Names::new(), Vec::new());
    for step in done {
        match step {
            Done::Write(file, bytes) => files.entry(*file).or_default().0.extend(bytes),
            Done::Sync(file) => {
                let (bytes, flushed) = files.entry(*file).or_default();
                *flushed = bytes.len();
            }
            Done::Names(change) => pending.push(change),
            Done::SyncFolder => pending.drain(..).for_each(|change| change.apply(&mut names)),
        }
    }
    let happened = pending.iter().enumerate().filter(|(bit, _)| kept >> bit & 1 == 1);
    happened.for_each(|(_, change)| change.apply(&mut names));
    let content = |file: usize| {
        let (bytes, flushed) = files.get(&file).cloned().unwrap_or_default();
        let length = match unflushed {
            Bytes::All => bytes.len(),
            Bytes::Half => flushed + (bytes.len() - flushed) / 2,
            Bytes::None => flushed,
        };
        bytes[..length].to_vec()
    };
    names.into_iter().map(|(path, file)| (path, content(file))).collect()
}

/// How many name changes at the end of `done` were not flushed.
fn pending(done: &[Done]) -> usize {
    let behind = done.iter().rev().take_while(|step| !matches!(step, Done::SyncFolder));
    behind.filter(|step| matches!(step, Done::Names(_))).count()
}

/// Generations that are safe after `done`: renamed, and the folder flushed behind that.
fn safe(done: &[Done]) -> u64 {
    let flushed = done.iter().rposition(|step| matches!(step, Done::SyncFolder)).map_or(0, |last| last + 1);
    let generation = |step: &&Done| matches!(step, Done::Names(Change::Rename(_, to, _)) if to.to_string_lossy().contains("checkpoint-"));
    done[..flushed].iter().filter(generation).count() as u64
}

fn recorded(job: &Job, folder: &Path) -> Vec<Done> {
    let recording = Rc::new(RefCell::new(Recording::default()));
    let noted = Rc::clone(&recording);
    let watched = disk::watch(move |call| {
        noted.borrow_mut().note(call);
        Verdict::Go
    });
    let out = folder.join("adapter.gguf");
    assert_eq!(job.run(Job::cpu(), kept_in(folder), &out, &mut |_| ()).expect("trains"), job.golden());
    drop(watched);
    recording.take().done
}

#[test]
fn after_a_power_cut_the_last_generation_or_the_one_before_is_whole() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let done = recorded(&job, folder.path());
    let (mut seen, mut resumed) = (HashSet::new(), 0);
    for length in 0..=done.len() {
        let done = &done[..length];
        for kept in 0..1usize << pending(done) {
            for unflushed in [Bytes::All, Bytes::Half, Bytes::None] {
                let disk = after(done, kept, unflushed);
                let key = sha256_hex(format!("{disk:?}").as_bytes());
                if seen.insert((key, safe(done))) {
                    let whole = check(&job, folder.path(), &disk, safe(done));
                    // To the end from some of them: training takes longer than looking.
                    if seen.len() % 8 == 0 {
                        let digest = job.run(Job::cpu(), kept_in(&whole), &whole.join("adapter.gguf"), &mut |_| ());
                        assert_eq!(digest.expect("goes on"), job.golden());
                        resumed += 1;
                    }
                }
            }
        }
    }
    assert!(seen.len() > 40 && resumed > 4, "{} disks, {resumed} resumed", seen.len());
}

/// Puts `disk`, recorded under `from`, into a folder of its own and looks what is found there.
fn check(job: &Job, from: &Path, disk: &BTreeMap<PathBuf, Vec<u8>>, safe: u64) -> PathBuf {
    let folder = from.join("cut");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("state")).expect("made");
    for (path, bytes) in disk {
        std::fs::write(folder.join(path.strip_prefix(from).expect("below")), bytes).expect("written");
    }
    let request = Checkpoints { folder: folder.join("state"), every: 1, resume: true };
    let opened = Generations::open(&request, job.base.config().architecture, job.identity());
    let (_, (found, problems)) = opened.unwrap_or_else(|error| panic!("{safe} safe: {}", error.chain()));
    assert!(problems.is_empty(), "{problems:?}");
    let step = found.map_or(0, |(_, state)| state.progress.outcome.steps);
    assert!((safe..=(safe + 1).min(STEPS)).contains(&step), "{safe} generations are safe, {step} is found");
    if let Some(adapter) = disk.get(&from.join("adapter.gguf")) {
        assert_eq!(sha256_hex(adapter), job.golden(), "half an adapter");
    }
    folder
}
