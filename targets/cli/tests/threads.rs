//! A system that gives few threads, or none (`ulimit -u`, a container's pids.max): loam runs on those there are, or
//! says so.
#![cfg(target_os = "linux")]

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{base, micro};

/// Users that have no other process, one for each test, so that a limit counts those of the test only.
const USERS: [u32; 3] = [54_321, 54_322, 54_323];

/// A folder that any user can read and write, with a base in it and a model folder.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let open =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    open(folder.path(), 0o777);
    let copy = folder.path().join("copy.gguf");
    std::fs::copy(base(), &copy).expect("copied");
    open(&copy, 0o644);
    (folder, copy)
}

/// Exit code and standard error of `loam` run by `user`, who may start `threads` threads. `None` where that cannot be
/// arranged: only root can become a user without other processes, and an ordinary user who has some may start none at
/// all.
fn limited(user: u32, threads: u32, args: &[&str]) -> Option<(Option<i32>, String)> {
    let root = std::fs::metadata("/proc/self").expect("a process").uid() == 0;
    if !root && threads > 0 {
        return None;
    }
    let user = [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()];
    let mut command = Command::new("prlimit");
    command.arg(format!("--nproc={}", threads + 1));
    if root {
        command.arg("setpriv").args(user);
    }
    let output = command.arg(env!("CARGO_BIN_EXE_loam")).args(args).env_remove("LOAM_DEVICE").output().ok()?;
    Some((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn without_a_thread_there_is_an_error_and_no_panic() {
    let (folder, base) = folder();
    let base = base.to_string_lossy();
    let data = folder.path().join("d.jsonl");
    std::fs::write(&data, "{\"prompt\":\"Hello\",\"completion\":\"Hi there.\"}\n").expect("written");
    let (data, out) =
        (data.to_string_lossy().into_owned(), folder.path().join("o.gguf").to_string_lossy().into_owned());
    let (npy, model) = (out.replace(".gguf", ".npy"), micro().to_string_lossy().into_owned());
    let lines: [&[&str]; 7] = [
        &["inspect", &base, "--verify"],
        &["generate", &base, "--prompt", "Hi", "--max-tokens", "2", "--device", "cpu"],
        &["train", &base, "--data", &data, "-o", &out, "--steps", "1", "--device", "cpu", "--context", "32"],
        &["eval", &base, "--data", &data, "--device", "cpu"],
        &["logits", &base, "--tokens", "1,2", "-o", &npy, "--device", "cpu"],
        &["imatrix", &base, "--data", &data, "-o", &out, "--device", "cpu", "--context", "8"],
        &["convert", &model, "-o", &out, "--format", "q8_0"],
    ];
    for args in lines {
        let Some((code, message)) = limited(USERS[0], 0, args) else { return };
        assert_eq!(code, Some(1), "{args:?}: {message}");
        assert!(message.contains("cannot start a thread") && message.contains("hint: the system gives"), "{message}");
    }
    // What needs no threads works without them.
    let (code, message) = limited(USERS[0], 0, &["inspect", &base, "--digest"]).expect("as before");
    assert_eq!(code, Some(0), "{message}");
}

#[test]
fn fewer_threads_than_asked_for_do_the_work() {
    let (folder, _) = folder();
    let (model, out) = (micro(), folder.path().join("o.gguf"));
    let (model, out) = (model.to_string_lossy(), out.to_string_lossy());
    let args = ["convert", &*model, "-o", &*out, "--format", "q8_0", "--threads", "8"];
    let Some((code, message)) = limited(USERS[1], 3, &args) else { return };
    assert_eq!(code, Some(0), "{message}");
}

/// The progress bar has a thread of its own, which is the first that can be done without.
#[test]
fn measuring_takes_the_threads_there_are() {
    let (folder, base) = folder();
    let data = folder.path().join("c.txt");
    std::fs::write(&data, "A text to measure. ".repeat(20)).expect("written");
    let (base, data) = (base.to_string_lossy(), data.to_string_lossy());
    // One of them waits for Ctrl-C, one is the clock's.
    for threads in 3..=6 {
        for args in [
            &["eval", &*base, "--data", &*data, "--device", "cpu", "--context", "16"][..],
            &["generate", &*base, "--prompt", "Hi", "--max-tokens", "2", "--device", "cpu"],
            &["inspect", &*base, "--verify"],
        ] {
            let Some((code, message)) = limited(USERS[2], threads, args) else { return };
            assert_eq!(code, Some(0), "{threads} threads, {args:?}: {message}");
        }
    }
    // With too few for that there is an error, and no panic.
    for threads in [1, 2] {
        let args = ["eval", &*base, "--data", &*data, "--device", "cpu", "--context", "16"];
        let Some((code, message)) = limited(USERS[2], threads, &args) else { return };
        assert!(code == Some(1) && message.contains("cannot start a thread"), "{threads} threads: {message}");
    }
}
