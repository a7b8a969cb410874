//! `loam plan` and budgets: what is predicted is what `loam train` then reports.

mod support;

use serde_json::Value;
use support::{base, demo_data, run};

/// `plan`, then `train` with the same flags: the prediction, the start of the training and its result.
fn both(flags: &str) -> (Value, Value, Value) {
    let folder = tempfile::tempdir().expect("temp dir");
    let adapter = folder.path().join("a.gguf");
    let plan = run(&format!("plan {{}} --data {{}} {flags} --json"), &[base(), &demo_data("train.jsonl")]).good();
    assert_eq!(plan.stderr, "");
    let train = format!("train {{}} --data {{}} -o {{}} --steps 2 {flags} --json");
    let train = run(&train, &[base(), &demo_data("train.jsonl"), &adapter]).good();
    let start = train.objects().into_iter().find(|event| event["event"] == "start").expect("a start");
    (plan.result(), start, train.result())
}

fn number(object: &Value, field: &str) -> f64 {
    object[field].as_f64().unwrap_or_else(|| panic!("`{field}` in {object}"))
}

/// The smallest budget that would do, as a refusal says.
fn smallest(refusal: &str) -> u64 {
    let number = refusal.split("would do is ").nth(1).and_then(|text| text.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number of bytes in {refusal}"))
}

#[test]
fn the_prediction_is_what_is_measured() {
    for flags in [
        "--device cpu --context 64 --batch 2",
        "--device cpu --context 256 --batch 1 --rank 32 --gradient-checkpointing on",
        "--device cpu --context 256 --batch 4 --targets attn_q,attn_v --loss-chunk 16",
    ] {
        let (plan, start, done) = both(flags);
        let equal = ["peak_device_bytes", "pools", "micro_batch", "accumulate", "checkpointing", "loss_chunk"];
        for field in equal.into_iter().chain(["peak_host_bytes", "host_pools"]) {
            assert_eq!(plan[field], start[field], "{field} with {flags}");
        }
        let pools = plan["pools"].as_object().expect("pools");
        let sum: f64 = pools.values().filter_map(Value::as_f64).sum();
        assert_eq!(sum, number(&plan, "peak_device_bytes"), "the CPU has no passing memory");
        assert_eq!(plan["peak_device_bytes"], done["peak_device_bytes"], "{flags}");
    }
}

#[test]
fn a_budget_chooses_or_refuses_before_the_start() {
    let free = run("plan {} --context 256 --device cpu --json", &[base()]).good().result();
    assert_eq!(
        (&free["micro_batch"], &free["accumulate"], &free["checkpointing"]),
        (&4.into(), &1.into(), &false.into())
    );
    let refused = run("plan {} --context 256 --device cpu --budget 1M --json", &[base()]);
    let refused = refused.bad(1, &["1000000 bytes", "smallest budget", "hint", "--budget"]);
    // The smallest budget is one to the byte, and the same whenever it is asked for.
    let needed: u64 = smallest(&refused.stderr);
    let with = |budget: u64| run(&format!("plan {{}} --context 256 --device cpu --budget {budget} --json"), &[base()]);
    for _ in 0..2 {
        let least = with(needed).good().result();
        let host = number(&least, "peak_host_bytes") as u64;
        assert_eq!((host + (host / 10).max(4 << 20), number(&least, "micro_batch")), (needed, 1.0), "{least}");
        assert_eq!(smallest(&with(needed - 1).bad(1, &[]).stderr), needed);
    }
    let tight = (number(&free, "peak_host_bytes") * 0.75) as u64;
    let (plan, start, done) = both(&format!("--context 256 --device cpu --budget {tight}"));
    assert!(number(&plan, "micro_batch") < 4.0 || plan["checkpointing"] == true, "{plan}");
    assert_eq!(number(&plan, "micro_batch") * number(&plan, "accumulate"), 4.0);
    assert_eq!(plan["peak_device_bytes"], start["peak_device_bytes"]);
    assert!(number(&done, "peak_device_bytes") <= tight as f64, "{done}");
    if let Some(process) = done["peak_host_bytes"].as_f64() {
        assert!(process <= tight as f64, "{done}");
    }
}

/// A run that has begun continues as it was, whatever its memory is then: with other micro-batches it would end in
/// other bytes.
#[test]
fn a_run_under_a_budget_goes_on_as_it_began() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (checkpoints, data) = (folder.path().join("ck"), demo_data("train.jsonl"));
    let flags = "--context 64 --batch 4 --steps 2 --device cpu --checkpoint-every 1 --json";
    let train = |budget: &str, more: &str, out: &str| {
        let line = format!("train {{}} --data {{}} -o {{}} --checkpoint-dir {{}} {flags} {budget} {more}");
        run(&line, &[base(), &data, &folder.path().join(out), &checkpoints])
    };
    let needed = smallest(&train("--budget 1M", "", "a.gguf").stderr);
    // Nothing depends on whether the run is begun with --resume: one that was killed before its first checkpoint begins
    // the same.
    assert_eq!(smallest(&train("--budget 1M", "--resume", "a.gguf").stderr), needed);
    let tight = format!("--budget {needed}");
    let begun = train(&tight, "", "a.gguf").good();
    let start = begun.objects().into_iter().find(|event| event["event"] == "start").expect("a start");
    assert!(start["micro_batch"].as_u64() < Some(4), "{start}");
    for budget in [tight.as_str(), "", "--budget 2M"] {
        let again = train(budget, "--resume", "b.gguf").good();
        let start_again = again.objects().into_iter().find(|event| event["event"] == "start").expect("a start");
        for field in ["micro_batch", "accumulate", "loss_chunk"] {
            assert_eq!(start_again[field], start[field], "{field} with {budget:?}");
        }
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("an adapter");
        assert!(read("b.gguf") == read("a.gguf"), "{budget:?}");
    }
    let inside = checkpoints.join("checkpoint-00000001.gguf");
    run("train {} --data {} -o {} --checkpoint-dir {}", &[base(), &data, &inside, &checkpoints])
        .bad(2, &["checkpoint"]);
}

/// A limit on the process, as a container has one: counted before the run, not found by being killed.
#[cfg(target_os = "linux")]
#[test]
fn what_the_limits_of_the_process_do_not_hold_is_refused_before_the_work() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (base, data, out) = (base().display().to_string(), demo_data("train.jsonl"), folder.path().join("a.gguf"));
    let (data, out) = (data.display().to_string(), out.display().to_string());
    let limited = |args: &[&str]| {
        let mut command = std::process::Command::new("prlimit");
        command.args(["--as=3000000000", env!("CARGO_BIN_EXE_loam")]).args(args).env_remove("LOAM_DEVICE");
        let output = command.output().expect("prlimit starts");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let large = ["--batch", "2048", "--context", "512", "--no-pack", "--device", "cpu", "--steps", "1"];
    // The rows of this data are short: with less than all activations kept they would fit.
    let train = ["train", &base, "--data", &data, "-o", &out, "--gradient-checkpointing", "off"];
    let train = [&train[..], &large[..]].concat();
    let (code, said) = limited(&train);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("out of memory: the training") && said.contains("bytes are free"), "{said}");
    let (code, said) = limited(&[&["plan", &base, "--json"], &large[..]].concat());
    assert!(code == Some(0) && said.contains("it does not fit here now"), "{said}");
    // A budget over the limit is the limit.
    let (code, said) = limited(&[&["plan", &base, "--json", "--budget", "64G"], &large[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    let done: serde_json::Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert!(done["peak_host_bytes"].as_u64().expect("a number") < 3_000_000_000, "{done}");
}
