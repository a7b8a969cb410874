//! A program that is no member of the workspace builds with the dependencies that `docs/library.md` names, links and
//! runs; and the programs on that page are those of `examples/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use loam_tests::convert_asset;
use xtask::sources::root;

/// The program, built with the versions that the workspace is locked to, and nothing from a network.
fn build() -> PathBuf {
    let program = root().join("tests/outside/program");
    fs::copy(root().join("Cargo.lock"), program.join("Cargo.lock")).expect("the lock file is copied");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let built = command.args(["build", "--offline", "--quiet", "--manifest-path"]).arg(program.join("Cargo.toml"));
    let built = built.arg("--target-dir").arg(&target).output().expect("cargo starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("debug")
}

#[test]
fn a_program_outside_the_workspace_links_generates_and_trains() {
    let programs = build();
    let folder = tempfile::tempdir().expect("temp dir");
    let base = convert_asset("loam-micro", "q8_0");
    let run = |name: &str, arguments: &[&Path]| {
        let output = Command::new(programs.join(name)).args(arguments).output().expect("the program starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {out}\n{err}");
        out.into_owned()
    };
    let answer = run("generate", &[&base, Path::new("Hello")]);
    assert!(answer.contains("tokens, ended by"), "{answer}");
    let (data, adapter) = (folder.path().join("d.jsonl"), folder.path().join("a.gguf"));
    fs::write(&data, r#"{"prompt":"Hello","completion":"Aye"}"#).expect("writes");
    let trained = run("train", &[&base, &data, &adapter]);
    assert!(trained.contains("loss ") && adapter.is_file(), "{trained}");
}

/// The blocks of Rust on the page, without what indents them.
fn blocks(page: &str) -> Vec<String> {
    let blocks = page.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.map(|block| block.lines().map(str::trim).collect::<Vec<_>>().join("\n")).collect()
}

#[test]
fn programs_of_the_documentation_are_examples() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file");
    let examples = ["generate", "train", "chat", "embed", "convert"].map(|name| read(&format!("examples/{name}.rs")));
    let plain = examples.map(|text| text.lines().map(str::trim).collect::<Vec<_>>().join("\n"));
    let (page, readme) = (read("docs/library.md"), read("README.md"));
    let found: Vec<String> = blocks(&page).into_iter().chain(blocks(&readme)).collect();
    assert!(found.len() >= 2, "docs/library.md shows programs");
    for block in found {
        assert!(plain.iter().any(|example| example.contains(block.trim())), "no example has:\n{block}");
    }
    let manifest = read("tests/outside/program/Cargo.toml");
    for line in ["loam = {", "pollster = "] {
        let named = |text: &str| text.lines().any(|found| found.starts_with(line));
        assert!(named(&manifest) && named(&page), "{line}");
    }
}
