//! Runs the binary and looks at what it leaves.
#![allow(dead_code, reason = "every test program uses its own part of this module")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// What a run of `loam` left.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The run, which must have gone well.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The run, which must have failed with `code`, said why on standard error (and with --json as an event),
    /// printed no result, and mention every one of `words`.
    #[track_caller]
    pub fn bad(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        let no_result = |line: &str| serde_json::from_str(line).is_ok_and(|event: Value| event["event"] != "done");
        assert!(self.stdout.lines().all(no_result), "a failed run prints no result: {}", self.stdout);
        assert!(self.stderr.contains("error:"), "{}", self.stderr);
        assert!(!self.stderr.contains('\x1b'), "no terminal, no color: {:?}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in: {}", self.stderr);
        }
        self
    }

    /// All lines of standard output, each a JSON object.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The last line of standard output: the result.
    #[track_caller]
    pub fn result(&self) -> Value {
        self.objects().pop().unwrap_or_else(|| panic!("no output; stderr: {}", self.stderr))
    }
}

/// Runs the binary without input.
#[track_caller]
pub fn loam<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Outcome {
    loam_with(args, "")
}

/// Runs the binary with `input` on its standard input.
#[track_caller]
pub fn loam_with<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>, input: &str) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loam"))
        .args(args)
        .env_remove("LOAM_DEVICE")
        // As in a session without a login: drivers must not complain about it.
        .env_remove("XDG_RUNTIME_DIR")
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A verb that does not read its input may be gone already.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("ends");
    Outcome {
        code: output.status.code().expect("ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs the binary with arguments separated by spaces; `{}` stands for the next of `paths`.
#[track_caller]
pub fn run(line: &str, paths: &[&Path]) -> Outcome {
    let mut paths = paths.iter();
    let args: Vec<String> = line
        .split_whitespace()
        .map(|word| match word.strip_prefix("{}") {
            Some(rest) => format!("{}{rest}", paths.next().expect("as many paths as holes").display()),
            None => word.to_owned(),
        })
        .collect();
    assert!(paths.next().is_none(), "more paths than holes in: {line}");
    loam(args)
}

/// The devices to test: the CPU, and the first GPU if there is one (a software rasteriser counts).
pub fn device_names() -> Vec<&'static str> {
    let result = run("devices --json", &[]).good().result();
    let gpu = result["devices"].as_array().expect("devices").iter().any(|device| device["backend"] != "cpu");
    if gpu {
        return vec!["cpu", "gpu:0"];
    }
    // Not `eprintln!`, which the test runner hides when a test passes. If it cannot be shown, the test continues.
    let _ = writeln!(std::io::stderr(), "skipped: there is no GPU, or this build has none; only the CPU is tested");
    vec!["cpu"]
}

/// The Hugging Face folder of the demo's model.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/loam-tiny")
}

/// The Hugging Face folder of the test model.
pub fn micro() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/assets/loam-micro")
}

/// A file of the demo data.
pub fn demo_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo").join(name)
}

/// The test model as a q8_0 base, converted once per test program.
pub fn base() -> &'static Path {
    static BASE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &BASE
        .get_or_init(|| {
            let folder = tempfile::tempdir().expect("temp dir");
            let path = folder.path().join("base.gguf");
            run("convert {} -o {} --format q8_0", &[&micro(), &path]).good();
            (folder, path)
        })
        .1
}

/// Names of what is in `folder`, sorted.
pub fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The element count and values of a float32 .npy file, and its shape as NumPy prints it.
pub fn read_npy(path: &Path) -> (String, Vec<f32>) {
    let file = std::fs::read(path).expect("a file");
    assert_eq!(&file[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([file[8], file[9]]));
    let header = std::str::from_utf8(&file[10..end]).expect("ASCII").to_owned();
    assert!(header.contains("'descr': '<f4'") && header.contains("'fortran_order': False"), "{header}");
    let (_, shape) = header.split_once("'shape': ").expect("a shape");
    let shape = shape.split_once(')').expect("closed").0.to_owned() + ")";
    let values = file[end..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (shape, values)
}
