//! Objectives against TRL's trainers, on both back ends: loss and metrics of ten steps and of held-out data, the first
//! gradient of the adapter and the adapter in the end. benches/peers/trl_goldens.py makes what is expected.

use std::path::Path;

use loam::data::{Batches, Dataset, Example, Notes, Records};
use loam::train::objective::{Metrics, Objective, ObjectiveOptions};
use loam::train::{Optimizer, Schedule};
use loam::{AdapterFile, Base, Engine, TrainOptions, Trainer};
use loam_tests::{back_ends, convert_asset, golden_adapter, relative};
use pollster::block_on;
use serde_json::Value;

/// Largest relative difference of a loss, of a metric, of a gradient and of the adapter after ten steps.
const BOUND: f64 = 1e-4;

/// What TRL computed.
struct Golden {
    values: Value,
    tensors: Vec<u8>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/objectives");
        let read = |ending: &str| std::fs::read(folder.join(format!("{name}.{ending}"))).expect("a committed file");
        Self { values: serde_json::from_slice(&read("json")).expect("JSON"), tensors: read("safetensors") }
    }

    fn number(&self, key: &str) -> usize {
        self.values[key].as_u64().expect("a number") as usize
    }

    fn adapter(&self, prefix: &str, base: &Base) -> AdapterFile {
        golden_adapter(&self.tensors, prefix, &self.values, base)
    }

    fn options(&self, objective: ObjectiveOptions) -> TrainOptions {
        TrainOptions {
            objective,
            batch: self.number("batch"),
            accumulate: self.number("accumulate"),
            context: 40,
            lr: self.values["lr"].as_f64().expect("a number") as f32,
            schedule: Schedule::Constant,
            optimizer: Optimizer::default().with_weight_decay(0.0),
            clip: 0.0,
            pack: false,
            shuffle: false,
            ..TrainOptions::default()
        }
    }
}

/// Ids of a JSON list.
fn ids(list: &Value) -> Vec<u32> {
    list.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// A prompt and an answer, which is trained.
fn example(prompt: &Value, answer: &Value) -> Example {
    let (prompt, answer) = (ids(prompt), ids(answer));
    let trained = (0..prompt.len() + answer.len()).map(|at| at >= prompt.len()).collect();
    Example { tokens: [prompt, answer].concat(), trained, line: 1, cut: 0 }
}

/// Tokens with a mask of the trained ones.
fn masked(row: &Value) -> Vec<Example> {
    let trained = ids(&row[1]).into_iter().map(|trained| trained == 1).collect();
    vec![Example { tokens: ids(&row[0]), trained, line: 1, cut: 0 }]
}

fn data(rows: &Value, records: Records, examples: fn(&Value) -> Vec<Example>) -> Dataset {
    let examples = rows.as_array().expect("rows").iter().flat_map(examples).collect();
    Dataset { records, examples, notes: Notes::default(), digest: "test".into() }
}

fn close(what: &str, found: f64, expected: &Value) {
    let expected = expected.as_f64().expect("a number");
    let difference = (found - expected).abs() / expected.abs().max(0.1);
    assert!(difference <= BOUND, "{what}: {found}, TRL has {expected}: {difference:.1e}");
}

fn compare(what: &str, found: &Metrics, expected: &Value) {
    close(&format!("{what}: loss"), found.loss, &expected["loss"]);
    for metric in &found.others {
        close(&format!("{what}: {}", metric.name), metric.value, &expected[metric.name]);
    }
}

fn same(what: &str, found: &AdapterFile, expected: &AdapterFile) {
    assert_eq!(found.parameters.len(), expected.parameters.len());
    for (found, expected) in found.parameters.iter().zip(&expected.parameters) {
        let name = found.name();
        assert_eq!(name, expected.name());
        let difference = relative(&found.values, &expected.values);
        assert!(difference <= BOUND, "{what}: {name} is {difference:.1e} away from TRL's");
    }
}

/// Ten steps of `objective` on both back ends.
fn follows_trl(name: &str, objective: ObjectiveOptions, held_out: bool, examples: fn(&Value) -> Vec<Example>) {
    let golden = Golden::read(name);
    let base = Base::open(convert_asset("loam-micro", "f32")).expect("base");
    let options = golden.options(objective);
    let load = |key: &str| data(&golden.values[key], objective.objective.records, examples);
    let (train, kept) = (load("train"), load("held_out"));
    let steps = golden.values["steps"].as_array().expect("steps");
    for (device, backend) in back_ends() {
        let mut engine = Engine::new(&base, backend).expect("engine");
        let start = golden.adapter("init", &base);
        let mut trainer = pollster::block_on(Trainer::new(&mut engine, Some(start), options.clone())).expect("trainer");
        if held_out {
            let batches = kept.in_order(options.batch, options.context).expect("batches");
            let found = block_on(trainer.evaluate(&mut engine, &batches)).expect("evaluation");
            compare(&format!("held-out data on {device}"), &found, &golden.values["held_out_metrics"]);
        }
        let batches = Batches::new(&train.examples, options.batches()).expect("batches");
        for (index, expected) in steps.iter().enumerate() {
            let what = format!("step {} on {device}", index + 1);
            let micro = batches.step(index).expect("a step").micro;
            assert_eq!(micro.len(), options.accumulate);
            let metrics = block_on(trainer.accumulate(&mut engine, &micro)).expect("gradients");
            compare(&what, &metrics, expected);
            if index == 0 {
                let found = block_on(trainer.gradients(&mut engine)).expect("gradients");
                same(&format!("gradient on {device}"), &found, &golden.adapter("gradient", &base));
            }
            let norm = block_on(trainer.update(&mut engine, options.lr)).expect("update");
            close(&format!("gradient norm of {what}"), f64::from(norm), &expected["grad_norm"]);
        }
        let found = block_on(trainer.adapter(&mut engine)).expect("adapter");
        same(&format!("ten steps on {device}"), &found, &golden.adapter("after", &base));
    }
}

fn named(name: &str) -> ObjectiveOptions {
    ObjectiveOptions { objective: Objective::named(name).expect("an objective"), ..ObjectiveOptions::default() }
}

/// loam measures held-out data of DFT by the likelihood, TRL by DFT's loss.
#[test]
fn dft_follows_trl() {
    follows_trl("dft", named("dft"), false, masked);
}

/// A prompt, a chosen and a rejected answer.
fn preference(row: &Value) -> Vec<Example> {
    vec![example(&row[0], &row[1]), example(&row[0], &row[2])]
}

#[test]
fn dpo_follows_trl() {
    let beta = Golden::read("dpo").values["beta"].as_f64().map(|beta| beta as f32);
    follows_trl("dpo", ObjectiveOptions { beta, ..named("dpo") }, true, preference);
}
