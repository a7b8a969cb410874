//! A whole fine-tuning against the curve of Transformers and PEFT on the same batches: sixty steps of question and
//! answer (GSM8K) on loam-tiny in Q4_0. The expected values lie beside the repository (`LOAM_SHARED`).

#![allow(clippy::print_stderr, reason = "the measured differences are shown with --nocapture")]

use loam::backend::cpu::CpuBackend;
use loam::data::Batch;
use loam::train::Schedule;
use loam::{Base, NewAdapter, TrainOptions};
use loam_tests::{golden_adapter, new_trainer, shared};
use pollster::block_on;
use safetensors::SafeTensors;

/// The bound on the held-out loss.
const HELD_OUT: f64 = 0.01;
/// Largest difference of the loss of a step, relative: the curves do not drift apart.
const STEP: f64 = 0.01;
/// Largest difference of a step's gradient norm, relative.
const NORM: f64 = 0.05;

/// Rows of `context` tokens in batches of `rows`: a label for each place whose mask is 1.
fn batches(tokens: &[u8], mask: &[u8], rows: usize, context: usize) -> Vec<Batch> {
    let tokens: Vec<u32> = tokens.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let places = rows * context;
    tokens.chunks(places).zip(mask.chunks(places)).map(|(tokens, mask)| batch(tokens, mask, context)).collect()
}

fn batch(tokens: &[u32], mask: &[u8], context: usize) -> Batch {
    let labelled: Vec<usize> = (0..tokens.len()).filter(|&i| mask[i] == 1).collect();
    assert!(labelled.iter().all(|i| i % context > 0), "nothing is in front of a row's first token");
    Batch {
        tokens: tokens.to_vec(),
        positions: (0..tokens.len()).map(|i| (i % context) as u32).collect(),
        starts: vec![0; tokens.len()],
        rows: labelled.iter().map(|&i| i as u32 - 1).collect(),
        labels: labelled.iter().map(|&i| tokens[i]).collect(),
        sequences: std::iter::once(0..labelled.len()).collect(),
        examples: vec![0],
        trained: labelled.len(),
        tokens_used: tokens.len(),
    }
}

#[test]
fn fine_tuning_on_gsm8k_follows_pefts_curve() {
    let curve = "golden/curves/gsm8k-tiny-q4_0";
    let (Some(json), Some(tensors)) = (shared(&format!("{curve}.json")), shared(&format!("{curve}.safetensors")))
    else {
        return;
    };
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(json).expect("json")).expect("json");
    let bytes = std::fs::read(tensors).expect("tensors");
    let all = SafeTensors::deserialize(&bytes).expect("safetensors");
    let data = |name: &str| all.tensor(name).expect("tensor").data().to_vec();
    let size = |key: &str| json[key].as_u64().expect("a size") as usize;
    let (rows, context) = (size("batch"), size("context"));
    let train = batches(&data("tokens"), &data("mask"), rows, context);
    let held_out = batches(&data("eval_tokens"), &data("eval_mask"), rows, context);
    let Some(base) = shared("golden/loam-tiny-Q4_0.gguf") else { return };
    let base = Base::open(base).expect("base");
    let start = golden_adapter(&bytes, "init", &json, &base);
    let adapter = NewAdapter { rank: size("rank"), ..NewAdapter::default() };
    let options = TrainOptions { adapter, batch: rows, context, ..TrainOptions::default() };
    let backend = Box::new(CpuBackend::new(None).expect("cpu back end"));
    let (mut engine, mut trainer) = new_trainer(&base, backend, Some(start), options).expect("trainer");

    let number = |key: &str| json[key].as_f64().expect("a number");
    let within = |what: &str, found: f64, expected: f64, bound: f64| {
        let difference = (found - expected).abs() / expected;
        assert!(difference <= bound, "{what}: {found}, PEFT has {expected}");
        difference
    };
    let before = block_on(trainer.evaluate(&mut engine, &held_out)).expect("loss").loss;
    within("held-out loss before", before, number("eval_before"), 1e-4);
    let (mut loss, mut norm) = (0.0f64, 0.0f64);
    for (index, batch) in train.iter().enumerate() {
        let lr = 1e-3 * Schedule::Linear.factor(index as u64 + 1, 0, train.len() as u64);
        let report = block_on(trainer.step(&mut engine, std::slice::from_ref(batch), lr)).expect("step");
        let expected = |key: &str| json[key][index].as_f64().expect("a number");
        let step = format!("step {}", index + 1);
        loss = loss.max(within(&step, report.metrics.loss, expected("losses"), STEP));
        norm = norm.max(within(&step, f64::from(report.grad_norm), expected("grad_norms"), NORM));
    }
    let after = block_on(trainer.evaluate(&mut engine, &held_out)).expect("loss").loss;
    let held_out = within("held-out loss after", after, number("eval_after"), HELD_OUT);
    eprintln!(
        "held-out loss {before:.4} -> {after:.4}, PEFT {:.4}: {held_out:.1e} apart; steps at most {loss:.1e}, gradient \
         norms {norm:.1e}",
        number("eval_after")
    );
}
