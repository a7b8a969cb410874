//! Weights over a device's binding limit are split by rows: the same logits and gradients as in one piece.

use loam::backend::Backend;
use loam::ops::sgd::Sgd;
use loam::train::Optimizer;
use loam::{AdapterFile, Base, NewAdapter, TrainOptions};
use loam_tests::{
    Limited, back_ends, convert_asset, full_batch, new_session, new_trainer, parameter_errors, relative, some_rows,
};

/// The embedding (4 MiB in f32) becomes seven parts, the feed-forward weights (768 KiB) and the adapter two.
const LIMIT: u64 = 600 * 1024;

fn gradients(base: &Base, backend: Box<dyn Backend>) -> AdapterFile {
    let adapter = NewAdapter { rank: 4, ..NewAdapter::default() };
    // SGD: Adam divides each gradient by its own size, so that rounding in a tiny one becomes a large step.
    let optimizer = Optimizer::Sgd(Sgd { momentum: 0.0, weight_decay: 0.0 });
    let options = TrainOptions { adapter, optimizer, batch: 1, context: 16, clip: 0.0, ..TrainOptions::default() };
    let (mut engine, mut trainer) = new_trainer(base, backend, None, options).expect("trainer");
    let batch = [full_batch(&some_rows(1, 16, 4096))];
    // Two steps, so that A has a gradient too.
    pollster::block_on(trainer.step(&mut engine, &batch, 1e-2)).expect("step");
    pollster::block_on(trainer.accumulate(&mut engine, &batch)).expect("step");
    pollster::block_on(trainer.gradients(&mut engine)).expect("gradients")
}

fn logits(base: &Base, backend: Box<dyn Backend>) -> Vec<f32> {
    let (mut engine, mut session) = new_session(base, backend, 16, &[]).expect("session");
    pollster::block_on(session.feed_all(&mut engine, &some_rows(1, 9, 4096)[0])).expect("logits")
}

#[test]
fn a_split_base_gives_the_same_logits_and_gradients() {
    for format in ["f32", "q8_0"] {
        let base = Base::open(convert_asset("loam-tiny", format)).expect("base");
        let whole: Vec<_> = back_ends().into_iter().map(|(_, backend)| logits(&base, backend)).collect();
        for ((device, backend), whole) in back_ends().into_iter().zip(&whole) {
            let error = relative(&logits(&base, Limited::boxed(backend, LIMIT)), whole);
            assert!(error <= 1e-6, "{format} on {device}: logits differ by {error:.2e}");
        }
        let whole: Vec<_> = back_ends().into_iter().map(|(_, backend)| gradients(&base, backend)).collect();
        for ((device, backend), whole) in back_ends().into_iter().zip(&whole) {
            let split = gradients(&base, Limited::boxed(backend, LIMIT));
            for (name, error) in parameter_errors(&split, whole) {
                assert!(error <= 1e-4, "{format} {name} on {device}: gradients differ by {error:.2e}");
            }
        }
    }
}

#[test]
fn a_limit_that_holds_no_rows_is_refused() {
    let base = Base::open(convert_asset("loam-tiny", "f32")).expect("base");
    let backend = Limited::boxed(back_ends().remove(0).1, 1024);
    let error = new_session(&base, backend, 16, &[]).err().expect("1 KiB holds no tile of weights");
    assert!(error.to_string().contains("token_embd.weight"), "{error}");
}

/// What a browser or a phone gives: no path, and not all bytes at once.
#[test]
fn a_base_from_memory_or_ranges_computes_the_same() {
    let path = convert_asset("loam-micro", "q4_0");
    let bytes = std::fs::read(&path).expect("readable");
    let length = bytes.len() as u64;
    let held = Base::from_bytes("memory.gguf", bytes.clone()).expect("base");
    let read = move |range: std::ops::Range<u64>| Ok(bytes[range.start as usize..range.end as usize].to_vec());
    let ranges = Base::from_ranges("ranges.gguf", length, std::sync::Arc::new(read)).expect("base");
    let mapped = Base::open(path).expect("base");
    for (at, (device, backend)) in back_ends().into_iter().enumerate() {
        let expected = logits(&mapped, backend);
        for base in [&held, &ranges] {
            assert_eq!(logits(base, back_ends().remove(at).1), expected, "{device}");
            assert_eq!(base.digest().expect("read"), mapped.digest().expect("read"));
        }
    }
}
