//! The session of the README runs as it is printed, in a clone with `loam` on the PATH.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A command of the session and what it prints there.
struct Step {
    command: String,
    printed: Vec<String>,
}

/// The steps of the block below `## A session`.
fn session() -> Vec<Step> {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let (_, below) = readme.split_once("## A session").expect("a session");
    let block = below.split("```").nth(1).expect("a block").strip_prefix("console\n").expect("of a console");
    let mut steps: Vec<Step> = Vec::new();
    let mut continued = false;
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), printed: Vec::new() }),
            (None, Some(step)) if continued => step.command += &format!("\n{line}"),
            (None, Some(step)) => step.printed.extend((!line.is_empty()).then(|| line.to_owned())),
            (None, None) => panic!("the session begins with a command, not with {line}"),
        }
        continued = line.ends_with('\\');
    }
    steps
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// A line with one `#` for each number: times, losses and sizes are another machine's.
fn without_numbers(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' | '.' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

#[test]
fn the_session_of_the_readme_runs_as_printed() {
    let folder = tempfile::tempdir().expect("temp dir");
    // What is read lies in the clone, what is written does not land there.
    std::os::unix::fs::symlink(root().join("targets"), folder.path().join("targets")).expect("links");
    let programs = Path::new(env!("CARGO_BIN_EXE_loam")).parent().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", programs.display());
    let steps = session();
    assert!(steps.len() >= 5, "the session has steps");
    for Step { command, printed } in steps {
        assert!(command.starts_with("loam "), "{command}");
        let mut shell = Command::new("sh");
        let shell = shell.args(["-e", "-c", &command]).env("PATH", &path).env("LOAM_DEVICE", "cpu");
        let output = shell.current_dir(folder.path()).output().expect("a shell");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command}: {out}{err}");
        assert!(!printed.is_empty(), "the README shows what {command} prints");
        if command.starts_with("loam generate") {
            // Words of a model may differ between processors; what it has learned does not.
            assert!(!out.trim().is_empty(), "{command}: no answer");
            assert_eq!(out.contains("Biscuit"), command.contains("--adapter"), "{command}: {out}");
            continue;
        }
        let lines: Vec<String> = out.lines().map(without_numbers).collect();
        for line in printed.iter().filter(|line| *line != "...") {
            assert!(lines.contains(&without_numbers(line)), "{command} does not print `{line}`, but:\n{out}");
        }
    }
}
