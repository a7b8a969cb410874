//! A disk without space: a limit on file sizes (`ulimit -f`) fails writes midway, as a full disk does. The previous
//! file stays as it was and nothing half-written is left. The signal that comes with such a limit ends nothing.
#![cfg(unix)]

mod support;

use std::path::Path;
use std::process::Command;

use support::{base, micro};

/// Runs the binary so that no file can grow over `blocks` x 512 bytes.
fn limited(blocks: u32, args: &[&str]) -> (Option<i32>, String) {
    let script = format!("ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_loam")])
        .args(args)
        .env_remove("LOAM_DEVICE")
        .output()
        .expect("sh starts");
    assert!(output.stdout.is_empty(), "a failed run prints no result");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// `out` holds what it held before, alone in its folder, and the message names it.
#[track_caller]
fn intact((code, message): (Option<i32>, String), out: &Path, before: &[u8]) {
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains(&*out.to_string_lossy()), "{message}");
    assert_eq!(std::fs::read(out).expect("the previous file"), before);
    let folder = out.parent().expect("a folder");
    assert_eq!(std::fs::read_dir(folder).expect("folder").count(), 1, "something is left in {}", folder.display());
}

#[test]
fn a_conversion_that_runs_out_of_space_leaves_the_previous_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("base.gguf");
    std::fs::write(&out, "the previous file").expect("write");
    let (model, path) = (micro(), out.to_string_lossy().into_owned());
    for blocks in [1, 600, 3000] {
        let run = limited(blocks, &["convert", &model.to_string_lossy(), "-o", &path, "--format", "f32"]);
        intact(run, &out, b"the previous file");
    }
}

#[test]
fn a_training_that_cannot_save_leaves_the_previous_adapter() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("adapter.gguf");
    std::fs::write(&out, "the previous adapter").expect("write");
    let data = tempfile::Builder::new().suffix(".jsonl").tempfile().expect("temporary file");
    std::fs::write(data.path(), r#"{"prompt":"Hello","completion":"Hi there."}"#).expect("write");
    let (base, data, path) = (base(), data.path().to_string_lossy(), out.to_string_lossy().into_owned());
    let args = ["train", &base.to_string_lossy(), "--data", &data, "-o", &path, "--steps", "1", "--device", "cpu"];
    let args = [&args[..], &["--context", "32", "--batch", "1"]].concat();
    intact(limited(20, &args), &out, b"the previous adapter");
}

/// A conversion that is interrupted leaves the previous file and nothing else.
#[test]
fn an_interrupted_conversion_leaves_the_previous_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("base.gguf");
    std::fs::write(&out, "the previous file").expect("write");
    let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/loam-tiny");
    let mut caught = 0;
    for delay in (0..60).step_by(3) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loam"))
            .args([
                "convert",
                &model.to_string_lossy(),
                "-o",
                &out.to_string_lossy(),
                "--format",
                "q4_k",
                "--threads",
                "1",
            ])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the binary starts");
        std::thread::sleep(std::time::Duration::from_millis(20 + delay * 5));
        let term = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill starts");
        assert!(term.success() || child.try_wait().expect("child").is_some());
        let status = child.wait().expect("child");
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1, "something is left after {delay}");
        if status.code() == Some(130) {
            caught += 1;
            assert_eq!(std::fs::read(&out).expect("the previous file"), b"the previous file");
        } else {
            std::fs::write(&out, "the previous file").expect("write");
        }
    }
    assert!(caught > 0, "no conversion was interrupted while it ran");
}
