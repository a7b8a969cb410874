//! Adapters on a base: bound to what they were trained on, added up when there are several.

use std::path::Path;

use loam::adapter::lora::{self, Pair};
use loam::adapter::{Attach, BASE_DIGEST, TEMPLATE_DIGEST, TOKENIZER_DIGEST};
use loam::data::{Dataset, Example, Notes, Records};
use loam::gguf::Value;
use loam::{AdapterFile, Base, Engine, Error, NewAdapter, TrainOptions, train};
use loam_files::Error as File;
use loam_tests::{back_ends, convert_asset, fill_b, full_batch, new_session, new_trainer, relative, some_rows};

fn base(format: &str) -> Base {
    Base::open(convert_asset("loam-micro", format)).expect("base")
}

/// An adapter with values in A and B that says it was made for `base`.
fn adapter(base: &Base, seed: u64) -> AdapterFile {
    let adapter = NewAdapter { rank: 4, seed, ..NewAdapter::default() };
    let options = TrainOptions { adapter, batch: 1, context: 8, ..TrainOptions::default() };
    let (mut engine, trainer) = new_trainer(base, back_ends().remove(0).1, None, options).expect("trainer");
    let mut adapter = pollster::block_on(trainer.adapter(&mut engine)).expect("adapter");
    fill_b(&mut adapter, seed, 0.1);
    adapter.metadata.push((BASE_DIGEST.into(), Value::from(base.digest().unwrap())));
    adapter
}

fn logits(base: &Base, adapters: &[(&AdapterFile, f32)]) -> Vec<f32> {
    let attach: Vec<_> =
        adapters.iter().map(|&(adapter, scale)| Attach { adapter, path: Path::new("a.gguf"), scale }).collect();
    let (mut engine, mut session) = new_session(base, back_ends().remove(0).1, 16, &attach).expect("session");
    pollster::block_on(session.feed_all(&mut engine, &some_rows(1, 9, 4096)[0])).expect("logits")
}

fn attach(base: &Base, adapter: &AdapterFile) -> Error {
    let attach = [Attach { adapter, path: Path::new("a.gguf"), scale: 1.0 }];
    match new_session(base, back_ends().remove(0).1, 16, &attach) {
        Ok(_) => panic!("the adapter was accepted"),
        Err(error) => error,
    }
}

#[test]
fn an_adapter_of_another_quantisation_is_refused_with_both_digests() {
    let (q4, q8) = (base("q4_0"), base("q8_0"));
    let adapter = adapter(&q4, 1);
    let error = attach(&q8, &adapter);
    let Error::File(File::BaseMismatch { expected, found, .. }) = &error else { panic!("{error}") };
    assert_eq!((expected.as_str(), found.as_str()), (q4.digest().unwrap(), q8.digest().unwrap()));
    assert!(error.to_string().contains(q4.digest().unwrap()) && error.to_string().contains(q8.digest().unwrap()));
}

#[test]
fn an_adapter_of_another_tokenizer_or_architecture_is_refused() {
    let base = base("q4_0");
    let mut other = adapter(&base, 1);
    other.metadata.push((TOKENIZER_DIGEST.into(), Value::from("0000")));
    assert!(matches!(attach(&base, &other), Error::File(File::BaseMismatch { what: "tokenizer digest", .. })));
    let mut other = adapter(&base, 1);
    other.metadata.push((TEMPLATE_DIGEST.into(), Value::from("0000")));
    let error = base.check_template(&other, Path::new("a.gguf")).expect_err("another template");
    assert!(matches!(error, Error::File(File::BaseMismatch { what: "chat template digest", .. })));
    assert!(base.check(&other, Path::new("a.gguf")).is_ok(), "token ids alone render nothing");
    let template = base.template().expect("template").expect("loam-micro has one").digest().to_owned();
    other.metadata.last_mut().expect("digest").1 = Value::from(template);
    assert!(base.check_template(&other, Path::new("a.gguf")).is_ok());
    let mut other = adapter(&base, 1);
    other.architecture = "gemma".into();
    assert!(matches!(attach(&base, &other), Error::File(File::BaseMismatch { what: "architecture", .. })));
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_by_tensor() {
    let base = base("q4_0");
    let mut other = adapter(&base, 1);
    other.parameters[6].site = "blk.9.attn_q.weight".into();
    other.parameters[7].site = "blk.9.attn_q.weight".into();
    assert!(attach(&base, &other).to_string().contains("blk.9.attn_q.weight"));
    let mut other = adapter(&base, 1);
    let b = other.parameters.iter_mut().find(|parameter| parameter.part == lora::B).expect("a B");
    (b.shape[1], b.values) = (1, vec![0.5; 4]);
    let name = b.site.clone();
    assert!(attach(&base, &other).to_string().contains(&name));
}

#[test]
fn an_adapter_on_a_norm_is_refused_instead_of_ignored() {
    let base = base("f32");
    let pair = Pair { a: vec![0.1; 2 * 64], b: vec![0.1; 2], rank: 2, matrices: 1 };
    for name in ["output_norm.weight", "blk.0.attn_norm.weight"] {
        let adapter = lora::adapter("llama", 2.0, [(name.to_owned(), pair.clone())]);
        let error = attach(&base, &adapter).to_string();
        assert!(error.contains(name) && error.contains("ignores nothing"), "{error}");
    }
}

/// A new adapter on the embedding and the head starts from the base exactly, and both halves learn.
#[test]
fn embedding_and_head_are_trained_where_asked() {
    let base = base("q4_0");
    let adapter =
        NewAdapter { rank: 3, targets: Some("token_embd,output".parse().expect("targets")), ..NewAdapter::default() };
    let options = TrainOptions { adapter, batch: 2, context: 8, ..TrainOptions::default() };
    let plain = logits(&base, &[]);
    for (device, backend) in back_ends() {
        let (mut engine, mut trainer) = new_trainer(&base, backend, None, options.clone()).expect("trainer");
        let start = pollster::block_on(trainer.adapter(&mut engine)).expect("adapter");
        let names: Vec<&str> = start.sites().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["token_embd.weight", "output.weight"]);
        assert!(relative(&logits(&base, &[(&start, 1.0)]), &plain) < 1e-6, "{device}: a new adapter changes the base");
        let batch = [full_batch(&some_rows(2, 8, 4096))];
        let losses: Vec<f64> = (0..12)
            .map(|_| pollster::block_on(trainer.step(&mut engine, &batch, 2e-2)).expect("step").metrics.loss)
            .collect();
        assert!(losses[11] < 0.7 * losses[0], "{device}: {losses:?}");
        let end = pollster::block_on(trainer.adapter(&mut engine)).expect("adapter");
        for (start, end) in start.parameters.iter().zip(&end.parameters) {
            assert!(start.values != end.values, "{device}: {} does not learn", start.name());
        }
    }
}

#[test]
fn several_adapters_add_up() {
    let base = base("q8_0");
    let (first, second) = (adapter(&base, 1), adapter(&base, 2));
    let plain = logits(&base, &[]);
    let whole = logits(&base, &[(&first, 1.0)]);
    assert!(relative(&whole, &plain) > 1e-3, "the adapter does nothing");
    assert!(relative(&logits(&base, &[(&first, 0.0)]), &plain) < 1e-6, "scale 0 is the base");
    assert!(relative(&logits(&base, &[(&first, 0.5), (&first, 0.5)]), &whole) < 1e-5);
    let both = logits(&base, &[(&first, 1.0), (&second, 1.0)]);
    assert!(relative(&logits(&base, &[(&second, 1.0), (&first, 1.0)]), &both) < 1e-5);
    assert!(relative(&both, &whole) > 1e-3, "the second adapter does nothing");
}

#[test]
fn a_saved_adapter_comes_back_bit_for_bit() {
    let base = base("q4_0");
    let adapter = adapter(&base, 3);
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("a.gguf");
    adapter.write(&path).expect("write");
    assert_eq!(AdapterFile::read(&path).expect("read"), adapter);
}

#[test]
fn an_adapter_that_goes_on_from_another_describes_itself() {
    let base = base("q4_0");
    let adapter =
        NewAdapter { rank: 3, targets: Some("attn_q,ffn_up".parse().expect("targets")), ..NewAdapter::default() };
    let options = TrainOptions { adapter, batch: 1, context: 8, steps: Some(1), ..TrainOptions::default() };
    let example = Example { tokens: some_rows(1, 8, 4096).remove(0), trained: vec![true; 8], line: 1, cut: 0 };
    let data =
        Dataset { records: Records::Answers, examples: vec![example], notes: Notes::default(), digest: "test".into() };
    let train = |start: Option<AdapterFile>, options: TrainOptions| {
        let mut ignore = |_: &train::Event| ();
        let mut engine = Engine::new(&base, back_ends().remove(0).1).expect("engine");
        let job = train::Job { start, ..train::Job::new(&base, &data, options) };
        let run = train::run(&job, &mut engine, train::RunOptions::default(), &mut ignore);
        pollster::block_on(run).expect("training").0
    };
    let first = train(None, options);
    let second = train(Some(first), TrainOptions { batch: 1, context: 8, steps: Some(1), ..TrainOptions::default() });
    let find = |key: &str| second.metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
    assert_eq!(find("loam.lora.rank"), Some(Value::U32(3)));
    assert_eq!(find("loam.lora.targets"), Some(Value::from("attn_q,ffn_up")));
}
