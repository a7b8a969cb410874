//! The memory of trainings, predicted by `loam plan` and measured by `loam train`, over a grid of settings.

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use support::{demo_data, device_names, run, tiny};

/// The demo's model in `format`.
fn base(folder: &Path, format: &str) -> PathBuf {
    let path = folder.join(format!("{format}.gguf"));
    run(&format!("convert {{}} -o {{}} --format {format} --pure"), &[&tiny(), &path]).good();
    path
}

fn bases() -> &'static [PathBuf; 2] {
    static BASES: OnceLock<(tempfile::TempDir, [PathBuf; 2])> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().expect("temp dir");
        let bases = ["q4_0", "q8_0"].map(|format| base(folder.path(), format));
        (folder, bases)
    };
    &BASES.get_or_init(make).1
}

/// What is predicted for `flags`, and what two steps of training take.
fn both(base: &Path, flags: &str) -> (Value, Value) {
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, held_out) = (demo_data("train.jsonl"), demo_data("heldout.jsonl"));
    let flags = flags
        .replace("HELD_OUT", &held_out.display().to_string())
        .replace("FOLDER", &folder.path().join("checkpoints").display().to_string());
    let plan = run(&format!("plan {{}} --data {{}} --force {flags} --json"), &[base, &data]).good();
    let train = format!("train {{}} --data {{}} -o {{}} --steps 2 --force {flags} --json");
    let train = run(&train, &[base, &data, &folder.path().join("a.gguf")]).good();
    (plan.result(), train.result())
}

fn number(object: &Value, field: &str) -> f64 {
    object[field].as_f64().unwrap_or_else(|| panic!("`{field}` in {object}"))
}

/// Settings that the memory depends on.
const GRID: [&str; 8] = [
    "--context 64 --batch 1",
    "--context 64 --batch 4 --gradient-checkpointing on --optim adamw_8bit",
    "--context 256 --batch 1 --rank 32",
    "--context 256 --batch 4 --optim adamw_8bit",
    "--context 256 --batch 4 --gradient-checkpointing on",
    "--context 256 --batch 2 --loss-chunk 8 --optim sgd --targets attn_q,attn_v --accumulate 2",
    "--context 128 --batch 2 --rank 64 --checkpoint-dir FOLDER",
    "--context 128 --batch 2 --rank 64 --checkpoint-dir FOLDER --eval-data HELD_OUT --eval-every 1 --gradient-checkpointing on",
];

/// A program without optimisations has two megabytes more of code, and small runs are little else.
const SMALL: f64 = 4e6;

#[test]
fn the_memory_of_a_training_on_the_cpu_is_predicted_within_a_tenth() {
    for (index, flags) in GRID.iter().enumerate() {
        let (plan, done) = both(&bases()[index % 2], &format!("{flags} --device cpu"));
        assert_eq!(plan["peak_device_bytes"], done["peak_device_bytes"], "{flags}");
        let pools = plan["host_pools"].as_object().expect("pools");
        let sum: f64 = pools.values().filter_map(Value::as_f64).sum();
        assert_eq!(sum, number(&plan, "peak_host_bytes"), "{flags}");
        let (predicted, measured) = (number(&plan, "peak_host_bytes"), done["peak_host_bytes"].as_f64());
        // Where the system does not tell, there is nothing to compare with.
        let Some(measured) = measured.filter(|_| cfg!(all(target_os = "linux", target_env = "gnu"))) else { continue };
        let bound = (0.1 * measured).max(SMALL);
        assert!((predicted - measured).abs() <= bound, "{predicted} predicted, {measured} measured: {flags}");
    }
}

/// The driver whose memory was measured.
const KNOWN: &str = "Mesa 22.3";

#[test]
fn the_memory_of_a_training_on_a_gpu_is_predicted() {
    let Some(device) = device_names().into_iter().find(|name| *name != "cpu") else { return };
    let devices = run("devices --json", &[]).good().result();
    let first = &devices["devices"][0];
    let known = first["kind"] == "software" && first["driver"].as_str().is_some_and(|driver| driver.contains(KNOWN));
    let flags = format!("{} --device {device}", GRID[1]);
    let (plan, done) = both(&bases()[0], &flags);
    assert_eq!(plan["peak_device_bytes"], done["peak_device_bytes"], "{flags}");
    if !known {
        let _ = writeln!(std::io::stderr(), "skipped: the memory of the driver of {first} is not known");
        return;
    }
    // A driver that has seen the kernels before does not compile them again.
    let (_, done) = both(&bases()[0], &flags);
    let (predicted, measured) = (number(&plan, "peak_host_bytes"), number(&done, "peak_host_bytes"));
    // Two thirds are the driver and the code that it made of the kernels, which change.
    assert!((predicted - measured).abs() <= 0.1 * measured, "{predicted} predicted, {measured} measured: {flags}");
}
