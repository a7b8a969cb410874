//! Files that other programs change while loam uses them: a sentence, never a signal, and nothing is signed that is not
//! of one base.
#![cfg(unix)]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{base, demo_data};

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loam"));
    command.args(args).env_remove("LOAM_DEVICE").stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

/// Waits until `is_so`, while `child` runs.
fn wait(child: &mut Child, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(child.try_wait().expect("child").is_none(), "it ended before");
        assert!(begun.elapsed() < Duration::from_secs(120), "it never came to it");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A training on a copy of the base that takes long, with a line of the log written.
fn training(folder: &Path, duty: &str) -> Child {
    let at = |name: &str| folder.join(name).display().to_string();
    fs::copy(base(), folder.join("base.gguf")).expect("copied");
    let (data, log) = (demo_data("heldout.jsonl").display().to_string(), folder.join("log"));
    let flags = ["--steps", "12", "--batch", "1", "--context", "24", "--device", "cpu", "--force", "--duty", duty];
    let files = ["train", &at("base.gguf"), "--data", &data, "-o", &at("a.gguf"), "--log", &at("log")];
    let mut child = start(&[&files[..], &flags[..]].concat());
    wait(&mut child, || fs::metadata(&log).is_ok_and(|found| found.len() > 0));
    child
}

#[test]
fn a_base_that_is_cut_short_is_a_sentence() {
    let folder = tempfile::tempdir().expect("temp dir");
    let child = training(folder.path(), "0.05");
    let file = File::options().write(true).open(folder.path().join("base.gguf")).expect("opened");
    file.set_len(4096).expect("cut");
    let (code, message) = ended(child);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("base.gguf was cut short by another program"), "{message}");
    assert!(message.contains("hint: "), "{message}");
    assert_eq!(support::listing(folder.path()), ["base.gguf", "log"], "no adapter, and nothing temporary");
}

#[test]
fn answering_on_a_base_that_is_cut_short_is_a_sentence() {
    let folder = tempfile::tempdir().expect("temp dir");
    let path = folder.path().join("base.gguf");
    fs::copy(base(), &path).expect("copied");
    let shown = path.display().to_string();
    // So long that it is cut in the middle of it.
    let data = folder.path().join("c.txt");
    fs::write(&data, "Some words that are measured again and again. ".repeat(20_000)).expect("written");
    let data = data.display().to_string();
    let child = start(&["eval", &shown, "--data", &data, "--device", "cpu", "--context", "256"]);
    std::thread::sleep(Duration::from_millis(1500));
    File::options().write(true).open(&path).expect("opened").set_len(4096).expect("cut");
    let (code, message) = ended(child);
    assert!(code == Some(1) && message.contains("base.gguf"), "{code:?} {message}");
}

#[test]
fn a_base_that_is_rewritten_in_place_makes_no_adapter() {
    let folder = tempfile::tempdir().expect("temp dir");
    let child = training(folder.path(), "0.3");
    let path = folder.path().join("base.gguf");
    let mut bytes = fs::read(&path).expect("read");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    // The same length, written where it lies.
    let mut file = File::options().write(true).open(&path).expect("opened");
    std::io::Write::write_all(&mut file, &bytes).expect("written");
    let (code, message) = ended(child);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("base.gguf was changed by another program"), "{message}");
    assert!(!folder.path().join("a.gguf").exists());
}
