//! `loam train` with nothing but model, data and output: a small data set is learned, nothing is computed that only
//! pads, and what the model forgets is told.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{base, demo_data, run, tiny};

/// The first lines of the demo's data.
fn lines(folder: &Path, count: usize) -> PathBuf {
    let text = fs::read_to_string(demo_data("train.jsonl")).expect("the demo's data");
    let path = folder.join(format!("{count}.jsonl"));
    fs::write(&path, text.lines().take(count).map(|line| format!("{line}\n")).collect::<String>()).expect("writes");
    path
}

fn number(object: &Value, field: &str) -> f64 {
    object[field].as_f64().unwrap_or_else(|| panic!("`{field}` in {object}"))
}

#[test]
fn all_defaults_teach_sixty_lines() {
    let folder = tempfile::tempdir().expect("temp dir");
    let path = |name: &str| folder.path().join(name);
    let (base, data, held_out, adapter) = (path("b.gguf"), lines(folder.path(), 60), path("h.jsonl"), path("a.gguf"));
    run("convert {} -o {} --format q8_0", &[&tiny(), &base]).good();
    let all = fs::read_to_string(demo_data("heldout.jsonl")).expect("the demo's data");
    fs::write(&held_out, all.lines().take(15).map(|line| format!("{line}\n")).collect::<String>()).expect("writes");
    let line = "train {} --data {} --eval-data {} -o {} --device cpu --json";
    let done = run(line, &[&base, &data, &held_out, &adapter]).good().result();
    assert!(number(&done, "steps") >= 60.0, "{done}");
    let (before, after) = (number(&done, "eval_loss_before"), number(&done, "eval_loss_after"));
    assert!(after < 0.6 * before, "{before} -> {after}");
    assert!(number(&done, "general_tokens") >= 128.0, "{done}");
    let (before, after) = (number(&done, "general_loss_before"), number(&done, "general_loss_after"));
    assert!(before > 0.0 && after > 0.0 && after < before + 1.0, "{before} -> {after}");
}

/// What the model knew before a run is in its checkpoints.
#[test]
fn the_general_text_is_compared_with_the_start_of_a_run_that_was_resumed() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, state, adapter) = (lines(folder.path(), 30), folder.path().join("state"), folder.path().join("a.gguf"));
    let flags = "--device cpu --steps 14 --checkpoint-every 7 --json";
    let line = format!("train {{}} --data {{}} --checkpoint-dir {{}} -o {{}} {flags}");
    let paths = [base(), &data, &state, &adapter];
    let whole = run(&line, &paths).good().result();
    fs::remove_file(state.join("checkpoint-00000002.gguf")).expect("the checkpoint after the last step");
    let resumed = run(&format!("{line} --resume"), &paths).good().result();
    for field in ["general_loss_before", "general_loss_after", "general_tokens", "rows_loss_before", "rows_loss_after"]
    {
        assert!(number(&whole, field) > 0.0, "{field}");
        assert_eq!(whole[field], resumed[field], "{field}");
    }
}

/// A few short rows, whatever the context may be.
#[test]
fn a_context_that_no_row_needs_costs_nothing() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, adapter) = (lines(folder.path(), 8), folder.path().join("a.gguf"));
    let plan = |flags: &str| {
        let line = format!("plan {{}} --data {{}} --device cpu --steps 2 --json {flags}");
        let mut plan = run(&line, &[base(), &data]).good().result();
        // What else the machine does changes that.
        plan.as_object_mut().expect("an object").remove("free_host_bytes");
        plan
    };
    let long = plan("--context 512 --no-pack");
    let longest = number(&long, "context");
    assert!((16.0..100.0).contains(&longest), "{long}");
    let short = plan(&format!("--context {longest} --no-pack"));
    for field in ["peak_device_bytes", "peak_host_bytes", "context", "loss_chunk"] {
        assert_eq!(long[field], short[field], "{field}");
    }
    // Eight rows are too few to share.
    assert_eq!(plan("--context 512"), long);
    let packed = plan("--context 512 --pack");
    assert!(number(&packed, "context") > longest, "{packed}");
    let line = "train {} --data {} -o {} --device cpu --steps 2 --context 512 --json --force";
    let done = run(line, &[base(), &data, &adapter]).good().result();
    assert_eq!(done["peak_device_bytes"], long["peak_device_bytes"], "{done}");
}

#[test]
fn too_few_lines_are_said_to_be_few() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, adapter) = (lines(folder.path(), 2), folder.path().join("a.gguf"));
    let told = run("train {} --data {} -o {} --device cpu", &[base(), &data, &adapter]).good();
    assert!(told.stderr.contains("2 examples make 20 steps in 20 passes"), "{}", told.stderr);
    assert!(told.stdout.contains("steps          20 in"), "{}", told.stdout);
    // Whose loss before and after is that of the same rows.
    assert!(told.stdout.contains("before and after on the rows of the last step"), "{}", told.stdout);
}

#[test]
fn a_plan_measures_the_time_if_asked() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, held_out) = (lines(folder.path(), 8), lines(folder.path(), 3));
    let line = "plan {} --data {} --eval-data {} --device cpu --steps 1000 --json";
    let paths = [base(), &data, &held_out];
    let silent = run(line, &paths).good().result();
    assert!(silent["seconds"].is_null() && number(&silent, "steps") == 1000.0, "{silent}");
    let measured = run(&format!("{line} --measure"), &paths).good().result();
    let (step, evaluation) = (number(&measured, "seconds_per_step"), number(&measured, "seconds_per_evaluation"));
    assert!(step > 0.0 && evaluation > 0.0);
    assert!(
        (number(&measured, "seconds") - 1000.0 * step - 2.0 * evaluation).abs() < 1e-3 * step * 1000.0,
        "{measured}"
    );
    run("plan {} --measure --device cpu", &paths[..1]).bad(2, &["--measure needs --data"]);
}

/// Three words of four bytes per parameter, and two of these files.
#[test]
fn the_size_of_checkpoints_is_told_before() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, state, adapter) = (lines(folder.path(), 8), folder.path().join("state"), folder.path().join("a.gguf"));
    let line = "--data {} --checkpoint-dir {} --device cpu --steps 2 --checkpoint-every 1 --rank 16 --json";
    let plan = run(&format!("plan {{}} {line}"), &[base(), &data, &state]).good().result();
    let told = number(&plan, "checkpoint_bytes");
    let train = run(&format!("train {{}} {line} -o {{}}"), &[base(), &data, &state, &adapter]).good();
    let start = train.objects().into_iter().find(|event| event["event"] == "start").expect("a start");
    assert_eq!(number(&start, "checkpoint_bytes"), told);
    for name in ["checkpoint-00000001.gguf", "checkpoint-00000002.gguf"] {
        let size = fs::metadata(state.join(name)).expect("a checkpoint").len() as f64;
        assert!((told..told + 1e4).contains(&size), "{name}: {size}, told {told}");
    }
    let trained = fs::metadata(&adapter).expect("an adapter").len() as f64;
    assert!(told < 3.1 * trained, "{told} for an adapter of {trained}");
}

#[test]
fn a_model_after_the_data_is_the_model_and_values_out_of_range_are_named() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, adapter) = (lines(folder.path(), 4), folder.path().join("a.gguf"));
    let flags = "-o {} --device cpu --steps 1 --force --json";
    for line in ["train --data {} {}", "train --data {} {} --seed 1"] {
        run(&format!("{line} {flags}"), &[&data, base(), &adapter]).good();
    }
    run("plan --device cpu --data {} {}", &[&data, base()]).good();
    run("train --data {} -o {}", &[&data, &adapter]).bad(2, &["<MODEL>"]);
    let refused = |flags: &str, words: &[&str]| {
        let line = format!("train {{}} --data {{}} -o {{}} --device cpu {flags}");
        run(&line, &[base(), &data, &adapter]).bad(2, words);
    };
    refused("--lr -1", &["--lr", "above 0"]);
    refused("--weight-decay -0.1", &["--weight-decay", "0 or more"]);
    refused("--steps -3", &["--steps", "-3"]);
    refused("--steps 3 --warmup 4", &["--warmup is 4", "at most the 3 steps"]);
    refused("--epochs 1 --warmup 2", &["--warmup is 2", "at most the 1 steps"]);
    let matrix = folder.path().join("m.gguf");
    run("imatrix {} --data {} -o {} --chunks 0", &[base(), &data, &matrix]).bad(2, &["--chunks"]);
    run("generate {} --prompt a --temperature -1", &[base()]).bad(2, &["--temperature"]);
}
