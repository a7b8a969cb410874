//! Power cuts. What is on the disk then is what was flushed, and of the rest anything: bytes that were written or not
//! or half, names that were changed or not. Every prefix of what a run did is tried with all of these.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use loam::digest::sha256_hex;
use loam::file::disk::{self, Call, Verdict};
use loam::train::Checkpoints;
use loam::train::checkpoint::Generations;

use crate::job::{Job, STEPS, kept_in};

/// What was done. Files are known by the order in which they were made.
#[derive(Debug, Clone)]
enum Done {
    Write(usize, Vec<u8>),
    Sync(usize),
    /// A change of names, which a flush of the folder that they are in makes durable.
    Names(Change),
    SyncFolder(PathBuf),
}

#[derive(Debug, Clone)]
enum Change {
    Create(PathBuf, usize),
    CreateFolder(PathBuf),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

/// Names of files and what they are of, and of folders.
#[derive(Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Change::Create(path, file) => drop(names.files.insert(path.clone(), *file)),
            Change::CreateFolder(path) => drop(names.folders.insert(path.clone())),
            Change::Rename(from, to, file) => {
                names.files.remove(from);
                names.files.insert(to.clone(), *file);
            }
            Change::Remove(path) => drop(names.files.remove(path)),
        }
    }

    /// The folder whose flush makes it durable.
    fn folder(&self) -> &Path {
        let (Change::Create(path, _) | Change::CreateFolder(path) | Change::Rename(_, path, _) | Change::Remove(path)) =
            self;
        path.parent().expect("in a folder")
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
            Call::Create(path) if self.names.files.contains_key(path) => return,
            Call::CreateFolder(path) => Done::Names(Change::CreateFolder(path.into())),
            Call::Create(path) => {
                self.files += 1;
                Done::Names(Change::Create(path.into(), self.files - 1))
            }
            Call::Write(path, bytes) => Done::Write(self.names.files[path], bytes.to_vec()),
            Call::Sync(path) => Done::Sync(self.names.files[path]),
            Call::Rename(from, to) => {
                assert_eq!(from.parent(), to.parent(), "a rename between folders");
                Done::Names(Change::Rename(from.into(), to.into(), self.names.files[from]))
            }
            Call::SyncFolder(path) => Done::SyncFolder(path.into()),
            Call::Remove(path) => Done::Names(Change::Remove(path.into())),
            Call::Open(_) | Call::Read(_) | Call::List(_) => return,
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

/// What is on a disk: files with their bytes, and folders.
#[derive(Debug)]
struct Disk {
    files: BTreeMap<PathBuf, Vec<u8>>,
    folders: BTreeSet<PathBuf>,
}

/// The changes of names that were flushed in `done`, and those that were not.
fn changes(done: &[Done]) -> (Names, Vec<&Change>) {
    let (mut names, mut pending) = (Names::default(), Vec::new());
    for step in done {
        match step {
            Done::Names(change) => pending.push(change),
            Done::SyncFolder(folder) => {
                let flushed = pending.extract_if(.., |change: &mut &Change| change.folder() == folder);
                flushed.for_each(|change| change.apply(&mut names));
            }
            Done::Write(..) | Done::Sync(_) => {}
        }
    }
    (names, pending)
}

/// The disk after `done` of a run in `root`, if of the name changes that were not flushed those in `kept` happened (a
/// bit each). What is in a folder that is not there is not there.
fn after(root: &Path, done: &[Done], kept: usize, unflushed: Bytes) -> Disk {
    let mut files: BTreeMap<usize, (Vec<u8>, usize)> = BTreeMap::new();
    for step in done {
        match step {
            Done::Write(file, bytes) => files.entry(*file).or_default().0.extend(bytes),
            Done::Sync(file) => {
                let (bytes, flushed) = files.entry(*file).or_default();
                *flushed = bytes.len();
            }
            Done::Names(_) | Done::SyncFolder(_) => {}
        }
    }
    let (mut names, pending) = changes(done);
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
    let Names { files: named, folders } = names;
    let there = |path: &Path| path.parent().is_some_and(|folder| folder == root || folders.contains(folder));
    let files = named.into_iter().filter(|(path, _)| there(path)).map(|(path, file)| (path, content(file))).collect();
    Disk { files, folders }
}

/// The files that were given their names for good in `done`: renamed, and the folder flushed after that.
fn renamed(done: &[Done]) -> Vec<&Path> {
    let mut renamed = Vec::new();
    for (place, step) in done.iter().enumerate() {
        let Done::Names(change @ Change::Rename(_, to, _)) = step else { continue };
        let flush = |step: &Done| matches!(step, Done::SyncFolder(folder) if folder == change.folder());
        if done[place..].iter().any(flush) {
            renamed.push(to.as_path());
        }
    }
    renamed
}

/// How many generations are safe after `done`.
fn safe(done: &[Done]) -> u64 {
    renamed(done).iter().filter(|path| path.to_string_lossy().contains("checkpoint-")).count() as u64
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
    let out = folder.path().join("adapter.gguf");
    assert_eq!(renamed(&done).last(), Some(&out.as_path()), "the adapter is flushed, and last");
    let (mut seen, mut resumed, mut published) = (HashSet::new(), 0, 0);
    for length in 0..=done.len() {
        let done = &done[..length];
        let must = renamed(done).contains(&out.as_path());
        for kept in 0..1usize << changes(done).1.len() {
            for unflushed in [Bytes::All, Bytes::Half, Bytes::None] {
                let disk = after(folder.path(), done, kept, unflushed);
                let key = sha256_hex(format!("{disk:?}").as_bytes());
                if seen.insert((key, safe(done), must)) {
                    let whole = check(&job, folder.path(), &disk, safe(done));
                    match disk.files.get(&out) {
                        Some(adapter) => assert_eq!(sha256_hex(adapter), job.golden(), "half an adapter"),
                        None => assert!(!must, "the run has ended, and its adapter is gone"),
                    }
                    published += u32::from(must);
                    // To the end from some of them: training takes longer than looking.
                    if seen.len() % 3 == 0 {
                        let digest = job.run(Job::cpu(), kept_in(&whole), &whole.join("adapter.gguf"), &mut |_| ());
                        assert_eq!(digest.expect("goes on"), job.golden());
                        resumed += 1;
                    }
                }
            }
        }
    }
    let disks = seen.len();
    assert!(disks > 40 && resumed > 12 && published > 0, "{disks} disks, {resumed} resumed, {published} published");
}

/// Each flush of a folder is needed: without the first one the folder of the checkpoints is gone, and without any other
/// the file that was renamed before it. A model that did not see that would not see a flush that is forgotten either.
#[test]
fn without_any_one_flush_something_is_lost() {
    let job = Job::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let done = recorded(&job, folder.path());
    let flushes = |step: &Done| matches!(step, Done::SyncFolder(_));
    let places: Vec<usize> = (0..done.len()).filter(|&place| flushes(&done[place])).collect();
    assert!(places.len() as u64 == STEPS + 2, "the folder, the generations, the adapter: {places:?}");
    for (number, &place) in places.iter().enumerate() {
        // Up to the next flush, which may be of the same folder and save what this one has not.
        let end = places.get(number + 1).map_or(done.len(), |&next| if number == 0 { next + 1 } else { next });
        let kept =
            |flushes: &[Done]| after(folder.path(), flushes, 0, Bytes::All).files.into_keys().collect::<Vec<_>>();
        let forgotten = [&done[..place], &done[place + 1..end]].concat();
        assert_ne!(kept(&forgotten), kept(&done[..end]), "flush {number} is needed for nothing");
    }
}

/// Puts `disk`, recorded under `from`, into a folder of its own and looks what is found there.
fn check(job: &Job, from: &Path, disk: &Disk, safe: u64) -> PathBuf {
    let folder = from.join("cut");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("made");
    let moved = |path: &Path| folder.join(path.strip_prefix(from).expect("below"));
    disk.folders.iter().for_each(|path| std::fs::create_dir(moved(path)).expect("made"));
    disk.files.iter().for_each(|(path, bytes)| std::fs::write(moved(path), bytes).expect("written"));
    let request = Checkpoints { folder: folder.join("state"), every: NonZeroU64::MIN, resume: true };
    let opened = Generations::open(&request, job.base.config().architecture, job.identity());
    let (_, (found, problems)) = opened.unwrap_or_else(|error| panic!("{safe} safe: {}", error.chain()));
    assert!(problems.is_empty(), "{problems:?}");
    let step = found.map_or(0, |(_, state)| state.progress.outcome.steps);
    assert!((safe..=(safe + 1).min(STEPS)).contains(&step), "{safe} generations are safe, {step} is found");
    folder
}
