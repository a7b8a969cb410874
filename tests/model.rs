//! Bases whose metadata or tensors make no sense: a typed error that names the key or tensor, before any work
//! (hostile-input cases 19 to 21).

use loam::backend::cpu::CpuBackend;
use loam::data::{Dataset, Example, Notes, Records};
use loam::gguf::{GgmlType, Metadata, Value};
use loam::train::{self, Event, Job, RunOptions};
use loam::{Base, Engine, Error, Session, TrainOptions};
use loam_files::Error as File;
use loam_tests::rewrite::{Tensor, rewrite};
use loam_tests::{back_ends, convert_asset, full_batch, new_scorer, new_session, new_trainer, some_rows};

/// Opens a changed copy of loam-micro and puts it on the CPU.
fn open(format: &str, change: impl FnOnce(&mut Metadata, &mut Vec<Tensor>)) -> Result<(Engine, Session), Error> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = rewrite(&convert_asset("loam-micro", format), folder.path(), "changed.gguf", change);
    let base = Base::open(path)?;
    new_session(&base, Box::new(CpuBackend::new(Some(1))?), 16, &[])
}

fn with_key(key: &str, value: impl Into<Value>) -> Error {
    match open("q4_0", |metadata, _| metadata.set(key, value)) {
        Ok(_) => panic!("{key} was accepted"),
        Err(error) => error,
    }
}

fn names(error: &Error, expected: &str) {
    let text = error.to_string();
    assert!(text.contains(expected), "{text:?} does not name {expected}");
}

#[test]
fn the_unchanged_copy_opens() {
    assert!(open("q4_0", |_, _| ()).is_ok());
}

#[test]
fn hyper_parameters_out_of_range_are_refused_by_key() {
    let cases: [(&str, &[u32]); 8] = [
        ("llama.block_count", &[0, 513, u32::MAX]),
        ("llama.attention.head_count", &[0, 3, 1 << 30]),
        ("llama.attention.head_count_kv", &[0, 3, 5, u32::MAX]),
        ("llama.embedding_length", &[0, 63, 128, u32::MAX]),
        ("llama.feed_forward_length", &[0, u32::MAX]),
        ("llama.rope.dimension_count", &[0, 3, 1 << 20]),
        ("llama.context_length", &[0, 1 << 31]),
        ("llama.attention.key_length", &[0, 6, 100_000]),
    ];
    for (key, values) in cases {
        for &value in values {
            let error = with_key(key, value);
            let known = matches!(error, Error::File(File::Metadata { .. } | File::Tensor { .. }));
            assert!(known, "{key} = {value}: {error:?}");
        }
    }
    names(&with_key("llama.block_count", 513u32), "llama.block_count");
    names(&with_key("llama.block_count", 5u32), "blk.4.");
    names(&with_key("llama.attention.head_count_kv", 3u32), "llama.attention.head_count_kv");
}

#[test]
fn numbers_that_are_none_are_refused() {
    for key in ["llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"] {
        for value in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
            names(&with_key(key, value), key);
        }
        names(&with_key(key, "text"), key);
    }
}

#[test]
fn unknown_kinds_are_refused_by_name() {
    let error = with_key("general.architecture", "mamba\u{1b}[31m");
    names(&error, "mamba");
    assert!(!error.to_string().contains('\u{1b}'), "control characters of the file reach the terminal");
    names(&with_key("llama.rope.scaling.type", "ntk"), "ntk");
    names(&with_key("llama.rope.scaling.type", "yarn"), "llama.rope.scaling.factor");
    names(&with_key("llama.rope.scaling.type", "longrope"), "rope_factors_short.weight");
}

#[test]
fn a_token_list_of_another_length_is_refused() {
    let mut tokens = loam::gguf::Strings::with_capacity(2, 2);
    tokens.push(b"a");
    tokens.push(b"b");
    names(&with_key("tokenizer.ggml.tokens", tokens), "4096 rows");
}

#[test]
fn missing_extra_and_misshapen_tensors_are_refused_by_name() {
    let failed = |change: &dyn Fn(&mut Vec<Tensor>)| match open("f32", |_, tensors| change(tensors)) {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    };
    names(&failed(&|t| t.retain(|t| t.declaration.name != "blk.2.ffn_up.weight")), "blk.2.ffn_up.weight");
    let extra = failed(&|t| {
        let mut extra = t.iter().find(|t| t.declaration.name == "output_norm.weight").expect("norm").clone();
        extra.declaration.name = "blk.0.attn_sinks.weight".into();
        t.push(extra);
    });
    names(&extra, "blk.0.attn_sinks.weight");
    for shape in [vec![64, 192], vec![12_288]] {
        let change = |t: &mut Vec<Tensor>| {
            let tensor = t.iter_mut().find(|t| t.declaration.name == "blk.1.ffn_down.weight").expect("tensor");
            tensor.declaration.shape = shape.clone();
        };
        names(&failed(&change), "blk.1.ffn_down.weight");
    }
    let integers = |t: &mut Vec<Tensor>| {
        let tensor = t.iter_mut().find(|t| t.declaration.name == "blk.1.ffn_down.weight").expect("tensor");
        tensor.declaration.ty = GgmlType::I32;
    };
    names(&failed(&integers), "blk.1.ffn_down.weight");
}

/// loam-micro with a NaN scale in one block.
fn broken(folder: &std::path::Path) -> Base {
    let path = rewrite(&convert_asset("loam-micro", "q4_0"), folder, "nan.gguf", |_, tensors| {
        let down = tensors.iter_mut().find(|t| t.declaration.name == "blk.3.ffn_down.weight").expect("tensor");
        down.bytes[..2].copy_from_slice(&[0xff, 0x7f]);
    });
    Base::open(path).expect("a NaN inside a block is found when it is used")
}

#[test]
fn losses_that_are_not_finite_end_an_evaluation_and_a_training() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let base = broken(folder.path());
    let batch = full_batch(&some_rows(1, 8, 4096));
    for (device, backend) in back_ends() {
        let (mut engine, mut scorer) = new_scorer(&base, backend, &[], 1, 8).expect("scorer");
        let found = pollster::block_on(scorer.loss(&mut engine, std::slice::from_ref(&batch)));
        assert!(matches!(found, Err(Error::NonFinite(_))), "{device}: {found:?}");
    }
    let example = Example { tokens: some_rows(1, 8, 4096).remove(0), trained: vec![true; 8], line: 1, cut: 0 };
    let data =
        Dataset { records: Records::Answers, examples: vec![example], notes: Notes::default(), digest: "test".into() };
    for (device, backend) in back_ends() {
        let options = TrainOptions { batch: 1, context: 8, steps: Some(1000), ..TrainOptions::default() };
        let mut steps = 0;
        let mut count = |event: &Event| steps += usize::from(matches!(event, Event::Step { .. }));
        let (job, mut engine) = (Job::new(&base, &data, options), Engine::new(&base, backend).expect("engine"));
        let run = train::run(&job, &mut engine, RunOptions::default(), &mut count);
        assert!(matches!(pollster::block_on(run), Err(Error::NonFinite(_))), "{device}");
        assert!(steps <= 5, "{device}: {steps} steps were tried");
    }
}

#[test]
fn runs_that_no_host_can_hold_are_refused_before_anything_is_allocated() {
    let base = Base::open(convert_asset("loam-micro", "q4_0")).expect("base");
    let cpu = || Box::new(CpuBackend::new(Some(1)).expect("cpu back end"));
    for (batch, context) in [(1 << 20, 1024), (usize::MAX, 2), (1, 1 << 30), (1 << 10, 1 << 11)] {
        let options = TrainOptions { batch, context, ..TrainOptions::default() };
        let error = new_trainer(&base, cpu(), None, options).err();
        let refused = matches!(error, Some(Error::OutOfMemory { .. } | Error::Limit { .. }));
        // Only Linux tells how much memory is free.
        assert!(refused || !cfg!(target_os = "linux"), "{batch} x {context}: {error:?}");
    }
    if cfg!(target_os = "linux") {
        assert!(matches!(new_session(&base, cpu(), 1 << 40, &[]).err(), Some(Error::OutOfMemory { .. })));
    }
}

#[test]
fn weights_that_are_not_finite_give_an_error_instead_of_text() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let base = broken(folder.path());
    let cpu = Box::new(CpuBackend::new(Some(1)).expect("cpu"));
    let (mut engine, mut session) = new_session(&base, cpu, 16, &[]).expect("session");
    let error = pollster::block_on(session.feed(&mut engine, &some_rows(1, 4, 4096)[0])).expect_err("NaN logits");
    assert!(matches!(error, Error::NonFinite(_)), "{error}");
    let error = open("f32", |_, tensors| {
        let norm = tensors.iter_mut().find(|t| t.declaration.name == "blk.0.attn_norm.weight").expect("tensor");
        norm.bytes[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    });
    names(&error.err().expect("an infinite norm weight"), "blk.0.attn_norm.weight");
}

/// Logits of nine tokens on each back end.
fn logits(path: &std::path::Path) -> Vec<(&'static str, Vec<f32>)> {
    let base = Base::open(path).expect("base");
    let run = |backend| {
        let (mut engine, mut session) = new_session(&base, backend, 16, &[]).expect("session");
        pollster::block_on(session.feed_all(&mut engine, &some_rows(1, 9, 4096)[0])).expect("logits")
    };
    back_ends().into_iter().map(|(device, backend)| (device, run(backend))).collect()
}

fn same_logits(what: &str, a: &std::path::Path, b: &std::path::Path, same: bool) {
    for ((device, a), (_, b)) in logits(a).into_iter().zip(logits(b)) {
        let error = loam_tests::relative(&a, &b);
        assert_eq!(error <= 1e-6, same, "{what} on {device}: logits differ by {error:.2e}");
    }
}

#[test]
fn flags_of_the_file_are_followed_on_both_back_ends() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let plain = convert_asset("loam-micro", "f32");
    let changed = |name: &str, change: &dyn Fn(&mut Metadata, &mut Vec<Tensor>)| {
        rewrite(&plain, folder.path(), name, |metadata, tensors| change(metadata, tensors))
    };
    let add = |tensors: &mut Vec<Tensor>, name: &str, values: &[f32]| {
        let mut new = tensors.iter().find(|t| t.declaration.name == "output_norm.weight").expect("norm").clone();
        new.declaration.name = name.into();
        new.declaration.shape = vec![values.len() as u64];
        new.bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.push(new);
    };
    let untied = changed("untied.gguf", &|_, tensors| {
        let mut head = tensors.iter().find(|t| t.declaration.name == "token_embd.weight").expect("embedding").clone();
        head.declaration.name = "output.weight".into();
        tensors.push(head);
    });
    same_logits("a head that equals the embedding", &untied, &plain, true);
    let linear = changed("linear.gguf", &|metadata, _| {
        metadata.set("llama.rope.scaling.type", "linear");
        metadata.set("llama.rope.scaling.factor", 2.0_f32);
    });
    let factors = changed("factors.gguf", &|_, tensors| add(tensors, "rope_freqs.weight", &[2.0; 8]));
    same_logits("rope factors of 2 and linear scaling by 2", &factors, &linear, true);
    same_logits("rope scaling", &linear, &plain, false);
    let zero = changed("zero.gguf", &|_, tensors| add(tensors, "blk.1.attn_q.bias", &[0.0; 64]));
    same_logits("a bias of zeros", &zero, &plain, true);
    let bias = changed("bias.gguf", &|_, tensors| add(tensors, "blk.1.attn_v.bias", &[0.5; 32]));
    same_logits("a bias", &bias, &plain, false);
    // A bias of the values of every token is the same on both back ends.
    let found = logits(&bias);
    for (device, values) in &found {
        let error = loam_tests::relative(values, &found[0].1);
        assert!(error <= 1e-5, "a bias on {device}: {error:.2e}");
    }
}
