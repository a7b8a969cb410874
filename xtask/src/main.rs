//! loam's usual jobs. `cargo xtask` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program, not a library")]

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use xtask::sources::{root, sources};

const USAGE: &str = "usage: cargo xtask JOB
  ci               everything that must hold before a change lands
  snapshots        writes the snapshots of plans from what the code records now; look at `git diff tests/plans`
  goldens [NAME]   makes expected values with PyTorch, Transformers, PEFT and llama.cpp; without NAME: lists the scripts
  count [FOLDER]   lines, cycles, items without docs and other numbers, of this checkout or of another one";

/// A script that makes expected values: its name here, and its path.
const SCRIPTS: &[(&str, &str)] = &[
    ("golden", "tests/assets/golden/make_golden.py"),
    ("families", "tests/architectures/make_golden.py"),
    ("family-adapters", "tests/architectures/make_adapters.py"),
    ("family-importance", "tests/architectures/make_importance.py"),
    ("family-names", "tests/architectures/make_names.py"),
    ("ia3", "tests/assets/ia3.py"),
    ("objectives", "benches/peers/trl_goldens.py"),
    ("blocks", "tests/assets/blocks.py"),
    ("importance", "tests/assets/importance.py"),
    ("optimizers", "tests/assets/optimizers.py"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["ci"] => run(Command::new("bash").arg(".ci/run")),
        ["snapshots"] => run(Command::new("cargo")
            .args(["test", "-p", "loam-tests", "--test", "plans", "snapshots"])
            .env("UPDATE_SNAPSHOTS", "1")),
        ["goldens"] => {
            SCRIPTS.iter().for_each(|(name, script)| println!("{name:<18} {script}"));
            ExitCode::SUCCESS
        }
        ["goldens", name] => goldens(name),
        ["count"] => count(root()),
        ["count", folder] => count(folder.into()),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Runs `command` in the repository's root, and ends as it ended.
fn run(command: &mut Command) -> ExitCode {
    match command.current_dir(root()).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}: {error}", command.get_program().display());
            ExitCode::FAILURE
        }
    }
}

fn goldens(name: &str) -> ExitCode {
    let Some((_, script)) = SCRIPTS.iter().find(|(known, _)| *known == name) else {
        eprintln!("no script {name}; `cargo xtask goldens` lists them");
        return ExitCode::from(2);
    };
    run(Command::new("python3").arg(script))
}

fn count(folder: PathBuf) -> ExitCode {
    match sources(&folder, &[".rs", ".wgsl", "Cargo.toml"]) {
        Ok(sources) => {
            print!("{}", xtask::count::report(&sources));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
