//! The main job through the binary: convert, train, evaluate, generate, to PEFT and back, verify.

mod support;

use std::path::Path;

use support::{base, demo_data, listing, loam, loam_with, micro, read_npy, run};

/// Trains a small adapter on the demo data, always the same one.
fn train(adapter: &Path, more: &str) -> serde_json::Value {
    let line =
        format!("train {{}} --data {{}} -o {{}} --device cpu --steps 8 --lr 0.005 --rank 4 --seed 7 --json {more}");
    run(&line, &[base(), &demo_data("train.jsonl"), adapter]).good().result()
}

fn loss(adapter: Option<&Path>) -> f64 {
    let data = demo_data("heldout.jsonl");
    let outcome = match adapter {
        Some(adapter) => run("eval {} --data {} --adapter {} --device cpu --json", &[base(), &data, adapter]),
        None => run("eval {} --data {} --device cpu --json", &[base(), &data]),
    };
    outcome.good().result()["loss"].as_f64().expect("a loss")
}

#[test]
fn held_out_loss_falls_and_the_adapter_travels_to_peft_and_back() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (adapter, back) = (folder.path().join("a.gguf"), folder.path().join("b.gguf"));
    let peft = folder.path().join("peft");
    let heldout = demo_data("heldout.jsonl");
    let done = train(&adapter, &format!("--eval-data {}", heldout.display()));
    let (before, after) = (loss(None), loss(Some(&adapter)));
    assert!(after < before - 0.1, "held-out loss {before} -> {after}");
    // The trainer evaluates as `loam eval` does.
    assert!((done["eval_loss_before"].as_f64().expect("before") - before).abs() < 1e-4, "{done} {before}");
    assert!((done["eval_loss_after"].as_f64().expect("after") - after).abs() < 1e-4, "{done} {after}");

    run("adapter verify {} --base {}", &[&adapter, base()]).good();
    run("adapter to-peft {} --base {} -o {}", &[&adapter, base(), &peft]).good();
    assert!(peft.join("adapter_config.json").is_file() && peft.join("adapter_model.safetensors").is_file());
    run("adapter from-peft {} --base {} -o {}", &[&peft, base(), &back]).good();
    run("adapter verify {} --base {}", &[&back, base()]).good();
    assert_eq!(loss(Some(&back)), after, "PEFT and back changes nothing");

    let answer = ["generate", "--prompt", "Who are you?", "--max-tokens", "12", "--device", "cpu", "--adapter"];
    let answer = |path: &Path| loam(answer.iter().copied().map(Path::new).chain([path, base()])).good().stdout;
    assert_eq!(answer(&adapter), answer(&back));
    assert!(!answer(&adapter).trim().is_empty());
}

#[test]
fn the_same_run_gives_the_same_bytes_and_another_seed_does_not() {
    let folder = tempfile::tempdir().expect("temp dir");
    let paths = ["a", "b", "c"].map(|name| folder.path().join(name));
    train(&paths[0], "");
    train(&paths[1], "");
    run(
        "train {} --data {} -o {} --device cpu --steps 8 --lr 0.005 --rank 4 --seed 8",
        &[base(), &demo_data("train.jsonl"), &paths[2]],
    )
    .good();
    let [a, b, c] = paths.map(|path| std::fs::read(path).expect("an adapter"));
    assert_eq!(a, b);
    assert_ne!(a, c);
}

#[test]
fn a_scale_of_zero_switches_an_adapter_off_and_one_is_the_default() {
    let folder = tempfile::tempdir().expect("temp dir");
    let adapter = folder.path().join("a.gguf");
    train(&adapter, "");
    let logits = |name: &str, suffix: Option<&str>| {
        let out = folder.path().join(name);
        let ids = "logits {} --tokens 1,300,301,302 --device cpu -o {}";
        match suffix {
            Some(suffix) => run(&format!("{ids} --adapter {{}}{suffix}"), &[base(), &out, &adapter]).good(),
            None => run(ids, &[base(), &out]).good(),
        };
        read_npy(&out)
    };
    let (shape, plain) = logits("plain.npy", None);
    assert_eq!(shape, "(4, 4096)");
    assert_eq!(plain.len(), 4 * 4096);
    assert!(plain.iter().all(|v| v.is_finite()));
    assert_eq!(logits("off.npy", Some(":0")).1, plain);
    let with = logits("with.npy", Some("")).1;
    assert_ne!(with, plain);
    assert_eq!(logits("one.npy", Some(":1.0")).1, with);
}

#[test]
fn training_goes_on_from_an_adapter() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (first, second) = (folder.path().join("a.gguf"), folder.path().join("b.gguf"));
    let start = train(&first, "");
    let next = train(&second, &format!("--init {}", first.display()));
    let of = |value: &serde_json::Value| value["loss_first"].as_f64().expect("a loss");
    assert!(of(&next) < of(&start) - 0.1, "{start} {next}");
}

#[test]
fn every_format_converts_and_runs() {
    let folder = tempfile::tempdir().expect("temp dir");
    let mut losses = Vec::new();
    for format in ["f32", "f16", "bf16", "q8_0", "q4_0"] {
        let path = folder.path().join(format);
        run(&format!("convert {{}} -o {{}} --format {format} --threads 1"), &[&micro(), &path]).good();
        let outcome = run("eval {} --data {} --device cpu --json", &[&path, &demo_data("heldout.jsonl")]).good();
        losses.push(outcome.result()["loss"].as_f64().expect("a loss"));
    }
    // The weights were bf16: f32 and bf16 are the same model, the others come close.
    assert!((losses[0] - losses[2]).abs() < 1e-5, "{losses:?}");
    assert!(losses.iter().all(|l| (l - losses[0]).abs() < 0.5), "{losses:?}");
}

#[test]
fn the_demo_learns_and_keeps_its_files() {
    let folder = tempfile::tempdir().expect("temp dir");
    let done = run("demo --device cpu --steps 2 --json --keep {}", &[folder.path()]).good().result();
    let loss = |name: &str| done[name].as_f64().expect("a loss");
    assert!(loss("eval_loss_after") < loss("eval_loss_before") - 0.5, "{done}");
    assert_eq!(done["answers"].as_array().map(Vec::len), Some(4));
    assert_eq!(listing(folder.path()), ["adapter.gguf", "base.gguf"]);
    let [adapter, base] = ["adapter.gguf", "base.gguf"].map(|name| folder.path().join(name));
    run("adapter verify {} --base {}", &[&adapter, &base]).good();
}

#[test]
fn a_chat_answers_line_by_line_and_remembers() {
    let args = ["chat", "--device", "cpu", "--max-tokens", "8", "--system", "Be brief."].map(Path::new);
    let chat = |input: &str| loam_with(args.iter().copied().chain([base()]), input).good().stdout;
    let one = chat("Who are you?\n");
    assert!(!one.trim().is_empty());
    let two = chat("Who are you?\n\nWho are you?\n/exit\nnever asked\n");
    assert!(two.starts_with(&one), "{one:?} {two:?}");
    // After a reset the second question is the first one again: same answer.
    assert_eq!(chat("Who are you?\n/reset\nWho are you?\n"), format!("{one}{one}"));
}
