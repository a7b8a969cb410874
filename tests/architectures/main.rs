//! Logits and adapter gradients of every family against Transformers and PEFT, on tiny random models and both back
//! ends: checkpoint -> loam convert -> base -> run and train. `make_golden.py` wrote the expected values.

#![allow(clippy::print_stderr, reason = "the measured errors are shown with --nocapture")]

mod adapters;
mod checkpoint;
mod hostile;
mod importance;
mod moe;
mod rope_keys;

use std::path::{Path, PathBuf};

use checkpoint::{Named, Shaped, all_linear, fill, write_adapter, write_model};
use loam::adapter::Attach;
use loam::backend::Backend;
use loam::gguf::Metadata;
use loam::plan::Checkpointing;
use loam::{AdapterFile, Base, NewAdapter, TrainOptions};
use loam_shaders::Format;
use loam_tests::rewrite::rewrite;
use loam_tests::{back_ends, full_batch, new_session, new_trainer, parameter_errors, relative};
use safetensors::SafeTensors;

/// DESIGN: logits against Transformers.
const LOGITS: f64 = 1e-4;
/// DESIGN: each adapter gradient against PEFT.
const GRADIENT: f64 = 1e-3;
/// Token by token with a cache against all tokens at once: the same sums in another order.
const DECODE: f64 = 1e-5;

/// A family's expected values, and the base that they belong to.
struct Family {
    name: &'static str,
    golden: Vec<u8>,
    base: Base,
    adapter: AdapterFile,
    gradients: AdapterFile,
    /// Makes PEFT's gradients of loam's, where PEFT has other parameters.
    fold: fn(&mut AdapterFile),
    _folder: tempfile::TempDir,
}

impl Family {
    fn open(name: &'static str) -> Self {
        let (golden, folder, path) = convert(name, Format::F32);
        let base = Base::open(path).expect("base");
        let gradients = gradients(&golden);
        let start = gradients.iter().map(|(name, shape, _)| (name.clone(), shape.clone(), fill(name, shape, 1.0)));
        let adapter = import(&base, start.collect());
        let gradients = import(&base, gradients);
        Self { name, golden, base, adapter, gradients, fold: |_| (), _folder: folder }
    }

    fn values(&self, name: &str) -> Vec<f32> {
        values(&self.golden, name).2
    }

    fn tokens(&self) -> Vec<Vec<u32>> {
        let (_, shape, bits) = values(&self.golden, "tokens");
        bits.chunks(shape[1]).map(|row| row.iter().map(|b| b.to_bits()).collect()).collect()
    }

    fn logits(&self, device: &str, backend: Box<dyn Backend>, adapted: bool) {
        let path = PathBuf::from("golden");
        let attach = [Attach { adapter: &self.adapter, path: &path, scale: 1.0 }];
        let attach = if adapted { &attach[..] } else { &[] };
        let what = if adapted { "adapter_logits" } else { "logits" };
        let rows = self.tokens();
        let (context, vocabulary) = (rows[0].len(), self.base.config().vocabulary);
        let (mut engine, mut session) = new_session(&self.base, backend, context, attach).expect("session");
        for (row, expected) in rows.iter().zip(self.values(what).chunks(context * vocabulary)) {
            session.truncate(0);
            let found = pollster::block_on(session.feed_all(&mut engine, row)).expect("logits");
            self.check(what, device, &found, expected, LOGITS);
            session.truncate(0);
            let one = |token: &u32| pollster::block_on(session.feed(&mut engine, &[*token])).expect("decode");
            let decoded: Vec<f32> = row.iter().flat_map(one).collect();
            self.check("token by token", device, &decoded, &found, DECODE);
            session.truncate(0);
            let parts = [&row[..context / 3], &row[context / 3..]];
            let run = |part: &&[u32]| pollster::block_on(session.feed_all(&mut engine, part)).expect("part");
            let continued: Vec<f32> = parts.iter().flat_map(run).collect();
            self.check("in two parts", device, &continued, &found, DECODE);
        }
    }

    /// The loss of the adapter, and its gradients.
    fn loss(&self, backend: Box<dyn Backend>, checkpointing: Checkpointing) -> (f64, AdapterFile) {
        let rows = self.tokens();
        let (batch, context, checkpointing) = (rows.len(), rows[0].len(), Some(checkpointing));
        let adapter = NewAdapter { rank: 4, ..NewAdapter::default() };
        let options = TrainOptions { adapter, batch, context, checkpointing, ..TrainOptions::default() };
        let (mut engine, mut trainer) =
            new_trainer(&self.base, backend, Some(self.adapter.clone()), options).expect("trainer");
        let loss = pollster::block_on(trainer.accumulate(&mut engine, &[full_batch(&rows)])).expect("step").loss;
        (loss, pollster::block_on(trainer.gradients(&mut engine)).expect("gradients"))
    }

    fn gradients(&self, device: &str, [all, layers]: [Box<dyn Backend>; 2]) {
        let (loss, mut found) = self.loss(all, Checkpointing::None);
        self.check("loss", device, &[loss as f32], &self.values("adapter_loss"), LOGITS);
        let (again, checkpointed) = self.loss(layers, Checkpointing::Layers);
        assert_eq!(again.to_bits(), loss.to_bits(), "{} loss with checkpointing on {device}", self.name);
        // Neither holds a NaN: compared with PEFT's below.
        assert!(checkpointed.parameters == found.parameters, "{} gradients with checkpointing on {device}", self.name);
        (self.fold)(&mut found);
        let errors = parameter_errors(&found, &self.gradients);
        for (name, error) in &errors {
            assert!(*error <= GRADIENT, "{} gradient of {name} on {device}: {error:.2e}", self.name);
        }
        let worst = errors.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("parameters");
        eprintln!("{:<12} {:<16} {device:<5} {:.1e} ({})", self.name, "gradients", worst.1, worst.0);
    }

    fn check(&self, what: &str, device: &str, found: &[f32], expected: &[f32], bound: f64) {
        let error = relative(found, expected);
        eprintln!("{:<12} {what:<16} {device:<5} {error:.1e}", self.name);
        assert!(error <= bound, "{} {what} on {device}: relative error {error:.2e}", self.name);
    }
}

/// The golden file of a family, and its checkpoint converted to `format` in a folder.
fn convert(name: &str, format: Format) -> (Vec<u8>, tempfile::TempDir, PathBuf) {
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("architectures").join(name);
    let golden = std::fs::read(inputs.join("golden.safetensors")).expect("golden.safetensors");
    let config = std::fs::read(inputs.join("config.json")).expect("config.json");
    let folder = tempfile::tempdir().expect("temporary folder");
    // Gemma stores its norms less one.
    let norm_center = if name.starts_with("gemma") { 0.0 } else { 1.0 };
    write_model(folder.path(), &config, &weights(&golden), norm_center);
    let path = folder.path().join("base.gguf");
    let options = loam_convert::Options::new(format);
    loam_convert::convert(folder.path(), &path, &options, &mut |_| ()).expect("conversion");
    (golden, folder, path)
}

/// Name, shape and values of a stored tensor.
fn values(golden: &[u8], name: &str) -> Named {
    let all = SafeTensors::deserialize(golden).expect("safetensors");
    let tensor = all.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
    let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    (name.to_owned(), tensor.shape().to_vec(), values.collect())
}

/// The checkpoint's tensors, which the header lists.
fn weights(golden: &[u8]) -> Vec<Shaped> {
    let (_, header) = SafeTensors::read_metadata(golden).expect("safetensors");
    let text = &header.metadata().as_ref().expect("metadata")["weights"];
    let shapes: std::collections::BTreeMap<String, Vec<usize>> = serde_json::from_str(text).expect("shapes");
    shapes.into_iter().collect()
}

/// The gradients under PEFT's names.
fn gradients(golden: &[u8]) -> Vec<Named> {
    let all = SafeTensors::deserialize(golden).expect("safetensors");
    let mut names: Vec<&str> = all.names().into_iter().collect();
    names.sort_unstable();
    let named = names.into_iter().filter_map(|name| Some((name.strip_prefix("gradient.")?, values(golden, name))));
    named.map(|(name, (_, shape, values))| (name.to_owned(), shape, values)).collect()
}

/// An adapter taken in through PEFT's own files.
fn import(base: &Base, values: Vec<Named>) -> AdapterFile {
    let folder = tempfile::tempdir().expect("temporary folder");
    write_adapter(folder.path(), &all_linear(), values);
    let out = folder.path().join("adapter.gguf");
    loam_convert::peft::from_peft(folder.path(), base.file(), &out).expect("from_peft");
    AdapterFile::read(&out).expect("adapter")
}

fn check(name: &'static str) {
    let family = Family::open(name);
    let devices = || back_ends().into_iter();
    devices().for_each(|(device, backend)| family.logits(device, backend, false));
    devices().for_each(|(device, backend)| family.logits(device, backend, true));
    devices().zip(devices()).for_each(|((device, all), (_, layers))| family.gradients(device, [all, layers]));
}

#[test]
fn llama() {
    check("llama");
}

#[test]
fn llama_3_with_scaled_frequencies() {
    check("llama3");
}

#[test]
fn mistral() {
    check("mistral");
}

/// The same tensors under the other name that llama.cpp has for Mistral's models.
#[test]
fn mistral3_computes_as_llama() {
    let (_, folder, path) = convert("mistral", Format::F32);
    let renamed = rewrite(&path, folder.path(), "mistral3.gguf", |metadata, _| {
        let old = std::mem::replace(metadata, Metadata::new());
        for (key, value) in old.iter() {
            metadata.set(key.replacen("llama.", "mistral3.", 1), value.clone());
        }
        metadata.set("general.architecture", "mistral3");
    });
    let logits = |path: &Path| {
        let cpu = back_ends().swap_remove(0).1;
        let (mut engine, mut session) = new_session(&Base::open(path).expect("base"), cpu, 8, &[]).expect("session");
        pollster::block_on(session.feed_all(&mut engine, &[3, 1, 4, 1, 5])).expect("logits")
    };
    assert_eq!(logits(&renamed), logits(&path));
}

#[test]
fn smollm3() {
    check("smollm3");
}

#[test]
fn qwen2() {
    check("qwen2");
}

#[test]
fn qwen2_with_yarn() {
    check("qwen2-yarn");
}

#[test]
fn qwen3() {
    check("qwen3");
}

/// The adapter is on the attention and the router; its gradients pass through the chosen experts.
#[test]
fn qwen3moe() {
    check("qwen3moe");
}

#[test]
fn qwen3moe_with_weights_as_they_are() {
    check("qwen3moe-softmax");
}

#[test]
fn gemma2() {
    check("gemma2");
}

#[test]
fn gemma3() {
    check("gemma3");
}

#[test]
fn phi3_with_short_factors() {
    check("phi3");
}

#[test]
fn phi4_mini_with_long_factors() {
    check("phi4mini");
}

#[test]
fn olmo2() {
    check("olmo2");
}

#[test]
fn granite() {
    check("granite");
}
