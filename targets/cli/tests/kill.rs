//! The whole program, killed at random moments until it ends: the adapter has the bytes of one that was trained in
//! peace. And signals that ask it to end.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{base, demo_data, run};

/// Kills in all.
const KILLS: u32 = 200;
/// What the run is: short steps, so that many moments are between two of them.
const FLAGS: &str = "--steps 12 --batch 1 --accumulate 2 --context 24 --rank 2 --targets attn_q --lr 1e-2 --device cpu";
/// Runs take turns with these.
const MORE: [&str; 4] = [
    "--no-pack",
    "--optim adamw_8bit --dropout 0.2 --neftune-noise-alpha 5 --group-by-length",
    "--optim lion --dropout 0.1 --pack",
    "--optim sgd --momentum 0.9 --no-pack --budget 2G",
];

fn train(folder: &Path, flags: &str, more: &[&str]) -> Child {
    let (base, data) = (base().to_string_lossy(), demo_data("heldout.jsonl"));
    let (data, out) = (data.to_string_lossy(), folder.join("adapter.gguf"));
    let args = ["train", &base, "--data", &data, "-o", &out.to_string_lossy()].map(str::to_owned);
    Command::new(env!("CARGO_BIN_EXE_loam"))
        .args(args)
        .args(FLAGS.split_whitespace())
        .args(flags.split_whitespace())
        .args(more)
        .env_remove("LOAM_DEVICE")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// Trains in `folder` with checkpoints after every step, continuing from what is there.
fn kept(folder: &Path, flags: &str) -> Child {
    let state = folder.join("state");
    train(folder, flags, &["--checkpoint-dir", &state.to_string_lossy(), "--checkpoint-every", "1", "--resume"])
}

/// The adapter of a run in peace, and how long that takes.
fn golden(flags: &str) -> (Vec<u8>, Duration) {
    let folder = tempfile::tempdir().expect("temp dir");
    let begun = Instant::now();
    let output = train(folder.path(), flags, &[]).wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (fs::read(folder.path().join("adapter.gguf")).expect("an adapter"), begun.elapsed())
}

#[test]
fn killed_two_hundred_times_the_adapters_are_the_same() {
    // Once before, so that the conversion of the base is not measured.
    base();
    let goldens = MORE.map(golden);
    // A simple linear generator: the moments are the same every time as far as the machine is.
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    let (mut kills, mut runs, mut within) = (0, 0, 0);
    while kills < KILLS {
        let folder = tempfile::tempdir().expect("temp dir");
        let turn = runs as usize % MORE.len();
        let (flags, (golden, long)) = (MORE[turn], &goldens[turn]);
        runs += 1;
        loop {
            let mut child = kept(folder.path(), flags);
            std::thread::sleep(long.mul_f64(random()));
            // One that has ended by itself cannot be killed.
            if child.try_wait().expect("child").is_none() {
                child.kill().expect("SIGKILL");
            }
            let output = child.wait_with_output().expect("child");
            if output.status.success() {
                break;
            }
            assert_eq!(output.status.code(), None, "not killed: {}", String::from_utf8_lossy(&output.stderr));
            kills += 1;
            within += u32::from(folder.path().join("state").join("checkpoint-00000001.gguf").exists());
        }
        let found = fs::read(folder.path().join("adapter.gguf")).expect("an adapter");
        assert!(found == *golden, "run {runs}: another adapter: {flags}");
        let names = support::listing(&folder.path().join("state"));
        assert_eq!(names.len(), 2, "{names:?}");
    }
    assert!(
        runs as usize > MORE.len() && within > 0,
        "{kills} kills in {runs} runs, {within} of them between first steps"
    );
}

#[test]
fn a_signal_ends_the_run_with_a_checkpoint() {
    base();
    let (golden, long) = golden(MORE[0]);
    let mut stopped = 0;
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().expect("temp dir");
        let mut wait = 0.3;
        loop {
            let child = kept(folder.path(), MORE[0]);
            std::thread::sleep(long.mul_f64(wait));
            let told = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill starts");
            let asked = Instant::now();
            let output = child.wait_with_output().expect("child");
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?} until it ended", asked.elapsed());
            if output.status.success() {
                break;
            }
            assert!(told.success());
            assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if said.contains("--resume continues") {
                stopped += 1;
                assert!(said.contains("stopped after"), "{said}");
                assert!(folder.path().join("state").read_dir().expect("folder").count() > 0);
            }
            wait += 0.1;
        }
        let found = fs::read(folder.path().join("adapter.gguf")).expect("an adapter");
        assert!(found == golden, "{signal}: another adapter");
    }
    assert!(stopped > 0, "no signal came while a run was under way");
}

#[test]
fn a_signal_without_checkpoints_says_that_nothing_is_kept() {
    base();
    let folder = tempfile::tempdir().expect("temp dir");
    // So slow that the signal comes in the middle of it.
    let log = folder.path().join("log");
    let mut child = train(folder.path(), MORE[0], &["--duty", "0.01", "--log", &log.to_string_lossy()]);
    while !fs::metadata(&log).is_ok_and(|found| found.len() > 0) {
        assert!(child.try_wait().expect("child").is_none(), "it ended before the signal");
        std::thread::sleep(Duration::from_millis(5));
    }
    send("-TERM", &child);
    let output = child.wait_with_output().expect("child");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    let told = said.lines().filter(|line| line.contains("nothing of the training was kept")).count();
    assert!(told == 1 && said.contains("--checkpoint-dir"), "{said}");
}

#[test]
fn checkpoints_are_looked_after() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (state, out, log) = (folder.path().join("state"), folder.path().join("a.gguf"), folder.path().join("log"));
    let data = demo_data("heldout.jsonl");
    let line = format!("train {{}} --data {{}} -o {{}} --checkpoint-dir {{}} --log {{}} {FLAGS} --no-pack");
    let paths: [&Path; 5] = [base(), &data, &out, &state, &log];
    let first = run(&format!("{line} --json"), &paths).good();
    let saved = first.objects().iter().filter(|object| object["event"] == "checkpoint").count();
    assert_eq!(saved, 2, "after step 10 and at the end");
    let lines = fs::read_to_string(&log).expect("a log");
    run(&line, &paths).bad(1, &["not asked", "--resume continues"]);
    run(&format!("{line} --resume --clip 0.5"), &paths).bad(1, &["another run", "--clip is 1, now it is 0.5"]);
    let again = run(&format!("{line} --resume --json"), &paths).good();
    let resumed = again.objects().into_iter().find(|object| object["event"] == "resumed").expect("told");
    assert_eq!(resumed["step"], 12);
    assert_eq!(fs::read_to_string(&log).expect("a log"), lines, "the log is continued");
    let newest = state.join("checkpoint-00000002.gguf");
    let shown = run("inspect {} --json", &[&newest]).good().result();
    assert_eq!((&shown["kind"], &shown["checkpoint"]["steps"]), (&"checkpoint".into(), &"12".into()));
    assert_eq!(shown["checkpoint"]["state"], "whole");
    let mut bytes = fs::read(&newest).expect("readable");
    *bytes.last_mut().expect("bytes") ^= 4;
    fs::write(&newest, bytes).expect("written");
    let shown = run("inspect {}", &[&newest]).good().stdout;
    assert!(shown.contains("checkpoint") && shown.contains("is damaged"), "{shown}");
    run("inspect {} --verify", &[&newest]).bad(1, &["is damaged"]);
    run("inspect {} --verify --json", &[&newest]).bad(1, &["is damaged"]);
    let sound = run("inspect {} --verify", &[&state.join("checkpoint-00000001.gguf")]).good().stdout;
    assert!(sound.contains("all bytes by their digest"), "{sound}");
    let told = run(&format!("{line} --resume"), &paths).good();
    assert!(
        told.stderr.contains("an older checkpoint is used instead")
            && told.stderr.contains("going on after step 10/12"),
        "{}",
        told.stderr
    );
    run("train {} --data {} -o {} --resume", &[base(), &data, &out]).bad(2, &["--checkpoint-dir"]);
}

/// Sends `signal` to `child`.
fn send(signal: &str, child: &Child) {
    let told = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill starts");
    assert!(told.success());
}

/// Waits until `done`, while `child` runs.
fn wait_for(child: &mut Child, what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(child.try_wait().expect("child").is_none(), "it ended before {what}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} is waited for in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The objects of a log that is being written, or of none yet.
fn events(log: &Path, name: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let objects = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    objects.filter(|object| object["event"] == name).collect()
}

#[test]
fn nothing_is_done_while_a_run_is_paused() {
    base();
    let (golden, _) = golden(MORE[0]);
    let folder = tempfile::tempdir().expect("temp dir");
    let (state, log) = (folder.path().join("state"), folder.path().join("log.jsonl"));
    // A step takes a hundred times as long as it works.
    let flags = ["--checkpoint-dir", &state.to_string_lossy(), "--checkpoint-every", "1", "--duty", "0.01"];
    let mut child = train(folder.path(), MORE[0], &[&flags[..], &["--log", &log.to_string_lossy()]].concat());
    let first = state.join("checkpoint-00000001.gguf");
    wait_for(&mut child, "the first checkpoint", || first.exists());
    send("-USR1", &child);
    wait_for(&mut child, "the pause", || !events(&log, "paused").is_empty());
    let stands = || (support::listing(&state), fs::read(&log).expect("a log"));
    let before = stands();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(stands(), before, "it went on while it was paused");
    send("-USR2", &child);
    let output = child.wait_with_output().expect("child");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("paused; SIGUSR2") && said.contains("going on after a pause of"), "{said}");
    assert_eq!(fs::read(folder.path().join("adapter.gguf")).expect("an adapter"), golden);
    let (paused, continued) = (events(&log, "paused"), events(&log, "continued"));
    assert_eq!((paused.len(), continued.len(), &paused[0]["why"]), (1, 1, &"asked".into()));
    assert!(continued[0]["seconds"].as_f64().is_some_and(|seconds| seconds > 2.5), "{continued:?}");
}

/// The data takes a while to be read: the signal comes before the run begins, and holds when it does.
#[test]
#[cfg(target_os = "linux")]
fn a_pause_that_is_asked_early_holds_when_the_run_begins() {
    base();
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, log) = (folder.path().join("much.jsonl"), folder.path().join("log.jsonl"));
    fs::write(&data, fs::read(demo_data("heldout.jsonl")).expect("data").repeat(300)).expect("written");
    let (base, out) = (base().to_string_lossy(), folder.path().join("adapter.gguf"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_loam"))
        .args(["train", &base, "--data", &data.to_string_lossy(), "-o", &out.to_string_lossy(), "--json"])
        .args(["--log", &log.to_string_lossy()])
        .args(FLAGS.split_whitespace())
        .env_remove("LOAM_DEVICE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // Once it takes the signal at all.
    let status = format!("/proc/{}/status", child.id());
    let caught = || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
        u64::from_str_radix(mask, 16).is_ok_and(|mask| mask >> (libc::SIGUSR1 - 1) & 1 == 1)
    };
    wait_for(&mut child, "a handler of SIGUSR1", caught);
    assert!(events(&log, "start").is_empty(), "the handler comes after the data");
    send("-USR1", &child);
    wait_for(&mut child, "the pause", || !events(&log, "paused").is_empty());
    assert_eq!(events(&log, "paused")[0]["step"], 0);
    std::thread::sleep(Duration::from_millis(300));
    assert!(events(&log, "step").is_empty());
    send("-USR2", &child);
    let output = child.wait_with_output().expect("child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout);
    let told: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for name in ["paused", "continued"] {
        assert_eq!(told.iter().filter(|object| object["event"] == name).count(), 1, "{name}");
    }
    let done = told.last().expect("a result");
    assert!(done["paused_seconds"].as_f64().is_some_and(|seconds| seconds > 0.2), "{done}");
    assert!(done["seconds"].as_f64() > done["paused_seconds"].as_f64(), "{done}");
}

#[test]
fn a_run_can_be_slow_and_in_time() {
    base();
    let (golden, _) = golden(MORE[0]);
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, out) = (demo_data("heldout.jsonl"), folder.path().join("b.gguf"));
    let line = format!("train {{}} --data {{}} -o {{}} {FLAGS} --no-pack --foreground --json");
    let done = run(&line, &[base(), &data, &out]).good().result();
    assert!(done["submit_ms"]["count"].as_u64().is_some_and(|count| count >= 24), "{done}");
    assert_eq!(fs::read(&out).expect("an adapter"), golden);
    let line = line.replace("--steps 12", "--steps 1000000 --deadline 3s");
    let begun = Instant::now();
    let done = run(&line, &[base(), &data, &out]).good().result();
    assert_eq!(done["planned_steps"], 1_000_000);
    assert!(done["steps"].as_u64().is_some_and(|steps| (1..1_000_000).contains(&steps)), "{done}");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?} for three seconds", begun.elapsed());
    for wrong in ["--duty 0", "--duty 1.5", "--deadline 5", "--deadline 0m"] {
        let line = format!("train {{}} --data {{}} -o {{}} {wrong}");
        run(&line, &[base(), &data, &out]).bad(2, &[]);
    }
}
