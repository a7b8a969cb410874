//! Which model an adapter or a checkpoint belongs to, apart from which bytes: another quantisation runs, another model
//! is refused by the name of what differs, and a run is continued on the very same base only.

use std::path::{Path, PathBuf};

use loam::adapter::{Attach, BASE_DIGEST};
use loam::gguf::{Metadata, Value};
use loam::train::{self, Checkpoints, RunOptions};
use loam::{AdapterFile, Base, Engine, Error, NewAdapter, TrainOptions};
use loam_files::Error as File;
use loam_tests::rewrite::{Tensor, rewrite};
use loam_tests::{back_ends, convert_asset};

const PATH: &str = "a.gguf";

fn base(format: &str) -> Base {
    Base::open(convert_asset("loam-micro", format)).expect("base")
}

/// A base made from `source` with something changed.
fn changed(folder: &Path, source: &Path, change: impl FnOnce(&mut Metadata, &mut Vec<Tensor>)) -> Base {
    Base::open(rewrite(source, folder, "changed.gguf", change)).expect("a base too")
}

fn data() -> loam::data::Dataset {
    let tokens: Vec<u32> = (0..8).map(|i| 5 + 7 * i).collect();
    let example = loam::data::Example { trained: vec![true; 8], tokens, line: 1, cut: 0 };
    loam::data::Dataset {
        records: loam::data::Records::Answers,
        examples: vec![example],
        notes: loam::data::Notes::default(),
        digest: "data".into(),
    }
}

fn options() -> TrainOptions {
    let adapter = NewAdapter { rank: 2, ..NewAdapter::default() };
    TrainOptions { adapter, batch: 1, context: 8, lr: 1e-2, steps: Some(2), force: true, ..TrainOptions::default() }
}

fn run(base: &Base, upkeep: RunOptions) -> loam::Result<AdapterFile> {
    let data = data();
    let job = train::Job::new(base, &data, options());
    let mut engine = Engine::new(base, back_ends().remove(0).1).expect("engine");
    pollster::block_on(train::run(&job, &mut engine, upkeep, &mut |_| ())).map(|(adapter, _)| adapter)
}

fn trained(base: &Base) -> AdapterFile {
    run(base, RunOptions::default()).expect("trains")
}

fn check(base: &Base, adapter: &AdapterFile) -> loam::Result<Vec<String>> {
    base.check(adapter, Path::new(PATH))
}

/// Every hyper-parameter that a file can say, with another value than loam-micro has.
fn hyper_parameters() -> Vec<(&'static str, Value)> {
    vec![
        ("attention.layer_norm_rms_epsilon", Value::F32(3e-5)),
        ("attention.scale", Value::F32(0.3)),
        ("attn_logit_softcapping", Value::F32(20.0)),
        ("final_logit_softcapping", Value::F32(10.0)),
        ("embedding_scale", Value::F32(2.0)),
        ("residual_scale", Value::F32(0.5)),
        ("logit_scale", Value::F32(4.0)),
        ("rope.freq_base", Value::F32(500_000.0)),
        ("attention.sliding_window", Value::U32(4)),
    ]
}

#[test]
fn another_quantisation_of_the_model_runs_with_a_note() {
    let adapter = trained(&base("q4_0"));
    assert_eq!(check(&base("q4_0"), &adapter).expect("the same"), [""; 0]);
    for format in ["f32", "bf16", "f16", "q8_0", "q5_0", "q4_1", "q4_k", "iq4_nl"] {
        let notes = check(&base(format), &adapter).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert!(matches!(&notes[..], [note] if note.contains("another quantisation of this model")), "{notes:?}");
        let other = base(format);
        let mut engine = Engine::new(&other, back_ends().remove(0).1).expect("engine");
        let attach = [Attach { adapter: &adapter, path: Path::new(PATH), scale: 1.0 }];
        assert_eq!(engine.attach(&other, &attach).expect("attached").notes(), notes);
    }
    // The coarsest types, on tensors wide enough for them.
    let tiny = |name: &str| Base::open(convert_asset("loam-tiny", name)).expect("base");
    let adapter = trained(&tiny("q8_0"));
    for format in ["q2_k", "q3_k", "iq4_xs", "q6_k"] {
        assert_eq!(check(&tiny(format), &adapter).expect(format).len(), 1, "{format}");
    }
}

#[test]
fn other_hyper_parameters_are_another_model_and_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let source = convert_asset("loam-micro", "q8_0");
    let adapter = trained(&base("q8_0"));
    for (name, value) in hyper_parameters() {
        let set = |metadata: &mut Metadata, _: &mut Vec<Tensor>| metadata.set(format!("llama.{name}"), value);
        let other = changed(folder.path(), &source, set);
        let error = check(&other, &adapter).expect_err(name);
        assert!(matches!(&error, Error::File(File::BaseMismatch { what, .. }) if *what == name), "{name}: {error}");
        let notes = check(&other.taking_any_adapter(), &adapter).expect("any");
        assert!(matches!(&notes[..], [note] if note.contains(name)), "{notes:?}");
    }
    // What a file says, and what follows where it does not say it, are one; lengths are no part of a model.
    let same = changed(folder.path(), &source, |metadata, _| {
        metadata.set("llama.attention.scale", 1.0f32 / 4.0);
        metadata.set("llama.context_length", 4096u32);
        metadata.set("general.name", "renamed");
    });
    assert_eq!(same.config().attention_scale, base("q8_0").config().attention_scale, "loam-micro has heads of 16");
    assert_eq!(check(&same, &adapter).expect("the same"), [""; 0]);
}

#[test]
fn another_architecture_is_another_model() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let adapter = trained(&base("q8_0"));
    let other = changed(folder.path(), &convert_asset("loam-micro", "q8_0"), |metadata, _| {
        *metadata = metadata.iter().fold(Metadata::new(), |mut all, (key, value)| {
            all.set(key.replace("llama.", "smollm3."), value.clone());
            all
        });
        metadata.set("general.architecture", "smollm3");
    });
    let error = check(&other, &adapter).expect_err("it does not rotate every fourth layer");
    assert!(matches!(&error, Error::File(File::BaseMismatch { what: "architecture", .. })), "{error}");
    assert_eq!(check(&other.taking_any_adapter(), &adapter).expect("any").len(), 1);
}

#[test]
fn other_weights_are_another_model_and_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (source, adapter) = (convert_asset("loam-micro", "f32"), trained(&base("q8_0")));
    let named = |tensor: &str, change: &dyn Fn(usize, f32) -> f32| {
        let other = changed(folder.path(), &source, |_, tensors| {
            let tensor = tensors.iter_mut().find(|t| t.declaration.name == tensor).expect("a tensor");
            let values = tensor.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            tensor.bytes = values.enumerate().flat_map(|(i, x)| change(i, x).to_le_bytes()).collect();
        });
        match check(&other, &adapter) {
            Err(Error::File(File::OtherWeights { tensor, .. })) => tensor,
            other => panic!("{tensor}: {other:?}"),
        }
    };
    let random = |i: usize, _| loam::random::uniform(3, 1, i as u64) as f32 - 0.5;
    for tensor in ["blk.0.attn_q.weight", "blk.0.ffn_down.weight", "token_embd.weight"] {
        assert_eq!(named(tensor, &random), tensor);
        assert_eq!(named(tensor, &|_, x| 3.0 * x), tensor);
    }
    // Vectors are not quantised.
    assert_eq!(named("output_norm.weight", &|i, x| if i % 2 == 0 { x * 1.02 } else { x }), "output_norm.weight");
}

#[test]
fn an_adapter_from_before_the_facts_loads_with_a_note() {
    let mut old = trained(&base("q8_0"));
    old.metadata.retain(|(key, _)| !(key.starts_with("loam.base.") && key != BASE_DIGEST));
    let notes = check(&base("q8_0"), &old).expect("the same bytes");
    assert!(matches!(&notes[..], [note] if note.contains("older loam")), "{notes:?}");
    let error = check(&base("q4_0"), &old).expect_err("it knows bytes only");
    assert!(matches!(&error, Error::File(File::BaseMismatch { what: "content digest", .. })), "{error}");
    // Of other programs nothing is expected.
    old.metadata.retain(|(key, _)| key != BASE_DIGEST);
    assert_eq!(check(&base("q4_0"), &old).expect("names and shapes"), [""; 0]);
}

#[test]
fn a_run_is_gone_on_with_on_the_very_same_base_only() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let source = convert_asset("loam-micro", "q8_0");
    let kept = || {
        let every = std::num::NonZeroU64::MIN;
        let checkpoints = Checkpoints { folder: folder.path().join("state"), every, resume: true };
        RunOptions { checkpoints: Some(checkpoints), ..RunOptions::default() }
    };
    run(&base("q8_0"), kept()).expect("trains");
    let refused = |base: &Base| match run(base, kept()) {
        Err(Error::CheckpointMismatch { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&base("q4_0")), "base");
    for (name, value) in hyper_parameters() {
        let set = |metadata: &mut Metadata, _: &mut Vec<Tensor>| metadata.set(format!("llama.{name}"), value);
        assert_eq!(refused(&changed(folder.path(), &source, set)), name);
    }
    run(&base("q8_0"), kept()).expect("continues");
}

/// A copy of loam-micro that a test may write to.
fn copy(folder: &Path) -> PathBuf {
    let path = folder.join("base.gguf");
    std::fs::copy(convert_asset("loam-micro", "q8_0"), &path).expect("copied");
    path
}

#[test]
fn a_base_that_is_written_to_meanwhile_is_signed_by_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = copy(folder.path());
    let base = Base::open(&path).expect("base");
    base.digest().expect("read");
    let mut bytes = std::fs::read(&path).expect("read");
    let last = bytes.len() - 1000;
    bytes[last] ^= 1;
    // In place, with the same length.
    std::fs::write(&path, &bytes).expect("written");
    let error = run(&base, RunOptions::default()).expect_err("two bases in one adapter");
    assert!(matches!(&error, Error::File(File::Changed { path: named }) if *named == path), "{error}");
    // One that sets the time back is found by its bytes.
    let base = Base::open(&path).expect("base");
    base.digest().expect("read");
    let then = std::fs::metadata(&path).and_then(|found| found.modified()).expect("a time");
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    let file = std::fs::File::options().write(true).open(&path).expect("opened");
    file.set_modified(then).expect("set back");
    assert!(run(&base, RunOptions::default()).is_err() || cfg!(not(unix)));
    // One that another is renamed over stays what it was.
    let base = Base::open(&path).expect("base");
    base.digest().expect("read");
    std::fs::copy(convert_asset("loam-micro", "q4_0"), folder.path().join("new")).expect("copied");
    std::fs::rename(folder.path().join("new"), &path).expect("renamed");
    run(&base, RunOptions::default()).expect("the old bytes are there");
}

#[test]
fn an_imported_adapter_fits_every_quantisation_of_its_model() {
    let sketch = base("q4_0").model_metadata().expect("read");
    let mut adapter = trained(&base("q8_0"));
    adapter.metadata = sketch;
    assert_eq!(check(&base("q8_0"), &adapter).expect("the same model"), [""; 0]);
    let tiny = Base::open(convert_asset("loam-tiny", "q8_0")).expect("base");
    assert!(matches!(check(&tiny, &adapter), Err(Error::File(File::BaseMismatch { .. }))));
}
