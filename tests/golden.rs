//! Logits, adapter gradients, ten losses and the trained adapter against PyTorch, Transformers and PEFT, on both back
//! ends. A small set of expected values is committed (`tests/assets/golden`), a larger one lies beside the repository
//! (`LOAM_SHARED`). Bases are converted here and their bytes compared with llama-quantize's first, but for one that
//! llama-quantize itself wrote as a mix of types.

#![allow(clippy::print_stderr, reason = "the measured errors are shown with --nocapture")]

use std::path::{Path, PathBuf};

use loam::adapter::Attach;
use loam::backend::Backend;
use loam::train::Optimizer;
use loam::{AdapterFile, Base, NewAdapter, TrainOptions};
use loam_tests::{
    back_ends, convert_asset, flat, full_batch, golden_adapter, new_session, new_trainer, parameter_errors, relative,
    shared,
};
use safetensors::SafeTensors;

/// DESIGN: logits against Transformers on the same dequantised weights.
const LOGITS: f64 = 1e-4;
/// DESIGN: each adapter gradient against PEFT.
const GRADIENT: f64 = 1e-3;
/// DESIGN: ten training losses against PEFT, absolute.
const LOSS: f64 = 1e-3;
/// The adapter after ten AdamW steps. AdamW divides by the gradient's own size, so the smallest gradients' rounding
/// errors reach the parameters whole.
const FINAL: f64 = 5e-3;

struct Case {
    /// Name of the expected values.
    name: &'static str,
    base: Origin,
    values: Values,
}

/// Where expected values are.
enum Values {
    Committed,
    /// Beside the repository: skipped where they are not.
    Beside,
}

/// Where a base comes from.
enum Origin {
    /// A committed model, converted here to a format.
    Converted(&'static str, &'static str),
    /// A file that a stock llama-quantize wrote, beside the golden values.
    Stock(&'static str),
}
use Origin::{Converted, Stock};
use Values::{Beside, Committed};

const MICRO: &[Case] = &[
    Case { name: "micro-f32", base: Converted("loam-micro", "f32"), values: Committed },
    Case { name: "micro-Q4_0", base: Converted("loam-micro", "q4_0"), values: Committed },
    Case { name: "micro-f32", base: Converted("loam-micro", "f32"), values: Beside },
    Case { name: "micro-Q8_0", base: Converted("loam-micro", "q8_0"), values: Beside },
    Case { name: "micro-Q4_0", base: Converted("loam-micro", "q4_0"), values: Beside },
];
const TINY: &[Case] = &[
    Case { name: "tiny-Q4_0", base: Converted("loam-tiny", "q4_0"), values: Committed },
    Case { name: "tiny-f32", base: Converted("loam-tiny", "f32"), values: Beside },
    Case { name: "tiny-Q8_0", base: Converted("loam-tiny", "q8_0"), values: Beside },
    Case { name: "tiny-Q4_0", base: Converted("loam-tiny", "q4_0"), values: Beside },
    Case { name: "tiny-Q4_K", base: Converted("loam-tiny", "q4_k"), values: Beside },
    Case { name: "tiny-Q4_K_M", base: Stock("loam-tiny-Q4_K_M.gguf"), values: Beside },
];

/// A golden file and the base it belongs to.
struct Golden {
    label: String,
    json: serde_json::Value,
    tensors: Vec<u8>,
    base: Base,
}

impl Golden {
    fn open(case: &Case) -> Option<Self> {
        let path = |ending: &str| {
            let file = format!("golden/{}.{ending}", case.name);
            match case.values {
                Committed => Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(file)),
                Beside => shared(&file),
            }
        };
        let json = std::fs::read(path("json")?).expect("golden json");
        let tensors = std::fs::read(path("safetensors")?).expect("golden tensors");
        let base = match case.base {
            Converted(model, format) => convert_asset(model, format),
            Stock(file) => shared(&format!("golden/{file}"))?,
        };
        let base = Base::open(base).expect("base");
        let json = serde_json::from_slice(&json).expect("golden json");
        let place = if matches!(case.values, Committed) { "committed" } else { "beside" };
        let label = format!("{} ({place})", case.name);
        Some(Self { label, json, tensors, base })
    }

    fn values(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let all = SafeTensors::deserialize(&self.tensors).expect("safetensors");
        let tensor = all.tensor(name).unwrap_or_else(|_| panic!("{} has no {name}", self.label));
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        (tensor.shape().to_vec(), values.collect())
    }

    /// Token rows [B][T].
    fn tokens(&self) -> Vec<Vec<u32>> {
        let (shape, bits) = self.values("tokens");
        bits.chunks(shape[1]).map(|row| row.iter().map(|b| b.to_bits()).collect()).collect()
    }

    /// The adapter under `prefix` (init, grad, final).
    fn adapter(&self, prefix: &str) -> AdapterFile {
        golden_adapter(&self.tensors, prefix, &self.json, &self.base)
    }

    /// The positions of a row of `context` tokens whose logits are stored.
    fn logits_at(&self, context: usize) -> Vec<usize> {
        let Some(list) = self.json.get("logits_at") else { return (0..context).collect() };
        list.as_array().expect("positions").iter().map(|at| at.as_u64().expect("a position") as usize).collect()
    }

    /// Whether the adapter after the last step is stored.
    fn has_final(&self) -> bool {
        self.json.get("final").is_none_or(|stored| stored.as_bool().expect("true or false"))
    }

    fn options(&self) -> TrainOptions {
        let number = |key: &str| self.json["optimizer"][key].as_f64().expect("optimizer") as f32;
        let beta = |i: usize| self.json["optimizer"]["betas"][i].as_f64().expect("betas") as f32;
        let optimizer = Optimizer::AdamW(loam::ops::adamw::AdamW {
            beta1: beta(0),
            beta2: beta(1),
            eps: number("eps"),
            weight_decay: number("weight_decay"),
        });
        let size = |key: &str| self.json[key].as_u64().expect("size") as usize;
        let adapter = NewAdapter { rank: size("rank"), ..NewAdapter::default() };
        let (batch, context) = (size("batch"), size("context"));
        TrainOptions { adapter, batch, context, lr: number("lr"), clip: 0.0, optimizer, ..TrainOptions::default() }
    }
}

fn each(cases: &[Case], check: impl Fn(&Golden, &str, Box<dyn Backend>)) {
    for case in cases {
        let Some(golden) = Golden::open(case) else { continue };
        for (device, backend) in back_ends() {
            check(&golden, device, backend);
        }
    }
}

fn bytes_are_llama_quantizes(golden: &Golden) {
    for (name, digest) in golden.json["tensor_sha256"].as_object().expect("digests") {
        let info = golden.base.gguf().tensor(name).expect("tensor");
        assert_eq!(
            golden.base.file().tensor_digest(info).unwrap(),
            digest.as_str().expect("digest"),
            "{} {name}",
            golden.label
        );
    }
}

fn logits(golden: &Golden, device: &str, backend: Box<dyn Backend>, adapter: Option<&AdapterFile>) {
    let path = PathBuf::from("golden");
    let attach: Vec<_> = adapter.iter().map(|&adapter| Attach { adapter, path: &path, scale: 1.0 }).collect();
    let rows = golden.tokens();
    let (mut engine, mut session) = new_session(&golden.base, backend, rows[0].len(), &attach).expect("session");
    let name = if adapter.is_some() { "adapter_logits" } else { "base_logits" };
    let (shape, expected) = golden.values(name);
    let (vocabulary, at) = (shape[2], golden.logits_at(rows[0].len()));
    assert_eq!(shape, [rows.len(), at.len(), vocabulary], "{} {name}", golden.label);
    for (row, expected) in rows.iter().zip(expected.chunks(at.len() * vocabulary)) {
        session.truncate(0);
        let all = pollster::block_on(session.feed_all(&mut engine, row)).expect("logits");
        let found: Vec<f32> = at.iter().flat_map(|t| &all[t * vocabulary..(t + 1) * vocabulary]).copied().collect();
        let error = relative(&found, expected);
        eprintln!("{} {name} on {device}: {error:.2e}", golden.label);
        assert!(error <= LOGITS, "{} {name} on {device}: relative error {error:.2e}", golden.label);
    }
}

fn training(golden: &Golden, device: &str, backend: Box<dyn Backend>) {
    let options = golden.options();
    let lr = options.lr;
    let (mut engine, mut trainer) =
        new_trainer(&golden.base, backend, Some(golden.adapter("init")), options).expect("trainer");
    let batch = [full_batch(&golden.tokens())];
    let expected: Vec<f64> =
        golden.json["losses"].as_array().expect("losses").iter().filter_map(|v| v.as_f64()).collect();
    let mut worst = 0.0_f64;
    for (step, expected) in expected.iter().enumerate() {
        let loss = pollster::block_on(trainer.accumulate(&mut engine, &batch)).expect("step").loss;
        worst = worst.max((loss - expected).abs());
        assert!(
            (loss - expected).abs() <= LOSS,
            "{} on {device}: loss {step} is {loss}, PEFT has {expected}",
            golden.label
        );
        if step == 0 {
            let found = pollster::block_on(trainer.gradients(&mut engine)).expect("gradients");
            compare(golden, device, "gradient", &found, &golden.adapter("grad"), GRADIENT);
        }
        pollster::block_on(trainer.update(&mut engine, lr)).expect("update");
    }
    eprintln!("{} losses on {device}: {worst:.2e}", golden.label);
    if golden.has_final() {
        let found = pollster::block_on(trainer.adapter(&mut engine)).expect("adapter");
        compare(golden, device, "final adapter", &found, &golden.adapter("final"), FINAL);
    }
}

fn compare(golden: &Golden, device: &str, what: &str, found: &AdapterFile, expected: &AdapterFile, bound: f64) {
    let errors = parameter_errors(found, expected);
    for (name, error) in &errors {
        assert!(*error <= bound, "{} {what} {name} on {device}: relative error {error:.2e}", golden.label);
    }
    let lost = flat(found).into_iter().zip(flat(expected)).filter(|(f, e)| *f == 0.0 && *e != 0.0).count();
    assert_eq!(lost, 0, "{} {what} on {device}: zeros where PEFT has none", golden.label);
    let worst = errors.iter().map(|(_, error)| *error).fold(0.0, f64::max);
    eprintln!("{} {what} on {device}: {worst:.2e}", golden.label);
}

#[test]
fn bases_have_llama_quantizes_bytes() {
    for case in MICRO.iter().chain(TINY) {
        if let Some(golden) = Golden::open(case) {
            bytes_are_llama_quantizes(&golden);
        }
    }
}

#[test]
fn micro_logits() {
    each(MICRO, |golden, device, backend| logits(golden, device, backend, None));
}

#[test]
fn micro_logits_with_adapter() {
    each(MICRO, |golden, device, backend| logits(golden, device, backend, Some(&golden.adapter("init"))));
}

#[test]
fn micro_training() {
    each(MICRO, training);
}

#[test]
fn tiny_logits() {
    each(TINY, |golden, device, backend| logits(golden, device, backend, None));
}

#[test]
fn tiny_logits_with_adapter() {
    each(TINY, |golden, device, backend| logits(golden, device, backend, Some(&golden.adapter("init"))));
}

#[test]
fn tiny_training() {
    each(TINY, training);
}
