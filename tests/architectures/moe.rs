//! Experts beyond what the golden values show: quantised, in pieces, with tiles of many tokens, and adapters on them.

use std::collections::BTreeSet;
use std::path::Path;

use loam::adapter::Attach;
use loam::adapter::lora::{self, Pair};
use loam::backend::Backend;
use loam::plan::Plan;
use loam::{AdapterFile, Base, NewAdapter, TrainOptions};
use loam_shaders::Format;
use loam_tests::{Limited, back_ends, full_batch, new_session, new_trainer, parameter_errors, relative, some_rows};

/// Stacks of experts (64 and 128 KiB in f32) become several parts. Borders inside of an expert: tests/ops/moe.rs.
const LIMIT: u64 = 33 * 1024;
const VOCABULARY: u32 = 64;

fn base(format: Format) -> (tempfile::TempDir, Base) {
    let (_, folder, path) = super::convert("qwen3moe", format);
    (folder, Base::open(path).expect("base"))
}

/// Logits of many tokens at once, and of one token after them: tiles, then the kernels for few tokens.
fn logits(base: &Base, backend: Box<dyn Backend>) -> Vec<f32> {
    let rows = some_rows(1, 15, VOCABULARY);
    let (mut engine, mut session) = new_session(base, backend, 16, &[]).expect("session");
    let mut all = pollster::block_on(session.feed_all(&mut engine, &rows[0])).expect("logits");
    all.extend(pollster::block_on(session.feed(&mut engine, &[7])).expect("logits"));
    all
}

/// Gradients of the second step, in which A has one too.
fn gradients(base: &Base, backend: Box<dyn Backend>) -> AdapterFile {
    let adapter = NewAdapter { rank: 4, ..NewAdapter::default() };
    let options = TrainOptions { adapter, batch: 1, context: 16, clip: 0.0, ..TrainOptions::default() };
    let (mut engine, mut trainer) = new_trainer(base, backend, None, options).expect("trainer");
    let batch = [full_batch(&some_rows(1, 16, VOCABULARY))];
    pollster::block_on(trainer.step(&mut engine, &batch, 1e-2)).expect("step");
    pollster::block_on(trainer.accumulate(&mut engine, &batch)).expect("step");
    pollster::block_on(trainer.gradients(&mut engine)).expect("gradients")
}

fn compare(what: &str, found: &AdapterFile, expected: &AdapterFile) {
    for (name, error) in parameter_errors(found, expected) {
        assert!(error <= 1e-4, "{what} {name}: gradients differ by {error:.2e}");
    }
}

#[test]
fn quantised_and_split_experts_agree_on_all_back_ends() {
    for format in [Format::F32, Format::Q8_0, Format::Q4_0] {
        let (_folder, base) = base(format);
        let whole = logits(&base, back_ends().remove(0).1);
        for (device, backend) in back_ends() {
            let error = relative(&logits(&base, Limited::boxed(backend, LIMIT)), &whole);
            assert!(error <= 1e-5, "{format} on {device}: logits differ by {error:.2e}");
        }
        let slopes = back_ends().into_iter().map(|(_, backend)| gradients(&base, backend)).collect::<Vec<_>>();
        for ((device, backend), slopes) in back_ends().into_iter().zip(&slopes) {
            assert!(slopes.parameters.iter().any(|p| p.site == "blk.0.ffn_gate_inp.weight"));
            let split = gradients(&base, Limited::boxed(backend, LIMIT));
            compare(&format!("{format} on {device}"), &split, slopes);
        }
    }
}

/// Pairs are sorted by expert where tiles make use of it, and their products run in the base's own format.
#[test]
fn plans_sort_pairs_for_many_tokens_only() {
    let (_folder, base) = base(Format::Q4_0);
    let (engine, session) = new_session(&base, back_ends().remove(0).1, 64, &[]).expect("session");
    let kernels = |plan: Plan| plan.nodes.iter().map(|node| node.call.kernel.name()).collect::<BTreeSet<_>>();
    let (decode, prefill) = (kernels(session.plan(&engine, 1, false)), kernels(session.plan(&engine, 32, false)));
    assert!(decode.contains("moe_vector_q4_0") && !decode.contains("moe_place"), "{decode:?}");
    assert!(prefill.contains("moe_tile_q4_0") && prefill.contains("moe_place"), "{prefill:?}");
    assert!(!prefill.contains("moe_transposed_q4_0") && !prefill.contains("moe_vector_q4_0"), "{prefill:?}");
}

/// A stack of updates has as many matrices as the base has experts: more would be read past the end elsewhere.
#[test]
fn updates_of_other_numbers_of_experts_are_refused() {
    let (_folder, base) = base(Format::F32);
    let name = "blk.1.ffn_up_exps.weight";
    let attach = |matrices: usize, len: usize| {
        let pair = Pair { a: vec![0.1; matrices * 64], b: vec![0.1; matrices * len], rank: 1, matrices };
        let adapter = lora::adapter("qwen3moe", 1.0, [(name.to_owned(), pair)]);
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("adapter.gguf");
        adapter.write(&path).expect("write");
        assert_eq!(AdapterFile::read(&path).expect("read"), adapter);
        let attach = [Attach { adapter: &adapter, path: Path::new("adapter.gguf"), scale: 1.0 }];
        new_session(&base, back_ends().remove(0).1, 16, &attach).err().map(|error| error.to_string())
    };
    assert_eq!(attach(8, 32), None);
    for (matrices, len) in [(1, 32), (7, 32), (9, 32), (8, 33), (1, 8 * 32)] {
        let error = attach(matrices, len).expect("refused");
        assert!(error.contains(name) && error.contains("fits a weight"), "{error}");
    }
}

/// Experts are trained where asked, from a start that changes nothing.
#[test]
fn experts_are_trained_where_asked() {
    let (_folder, base) = base(Format::Q8_0);
    let targets = Some("ffn_gate_exps,ffn_up_exps,ffn_down_exps".parse().expect("targets"));
    let adapter = NewAdapter { rank: 3, targets, ..NewAdapter::default() };
    let options = TrainOptions { adapter, batch: 1, context: 8, ..TrainOptions::default() };
    let batch = [full_batch(&some_rows(1, 8, VOCABULARY))];
    for (device, backend) in back_ends() {
        let (mut engine, mut trainer) = new_trainer(&base, backend, None, options.clone()).expect("trainer");
        let losses: Vec<f64> = (0..12)
            .map(|_| pollster::block_on(trainer.step(&mut engine, &batch, 2e-2)).expect("step").metrics.loss)
            .collect();
        assert!(losses[11] < 0.8 * losses[0], "{device}: {losses:?}");
        let adapter = pollster::block_on(trainer.adapter(&mut engine)).expect("adapter");
        let pairs = lora::pairs(&adapter);
        assert!(pairs.len() == 6 && pairs.iter().all(|(_, pair)| pair.matrices == 8));
        assert!(pairs.iter().all(|(_, pair)| pair.b.iter().any(|b| *b != 0.0)), "{device}: some do not learn");
    }
}

/// A rank above the number of experts is one of the router too, as in PEFT.
#[test]
fn a_router_takes_ranks_above_the_number_of_experts() {
    let (_folder, base) = base(Format::F32);
    let adapter = NewAdapter { rank: 16, ..NewAdapter::default() };
    let options = TrainOptions { adapter, batch: 1, context: 8, ..TrainOptions::default() };
    let (mut engine, mut trainer) = new_trainer(&base, back_ends().remove(0).1, None, options).expect("trainer");
    pollster::block_on(trainer.step(&mut engine, &[full_batch(&some_rows(1, 8, VOCABULARY))], 1e-3)).expect("step");
    let adapter = pollster::block_on(trainer.adapter(&mut engine)).expect("adapter");
    let pairs = lora::pairs(&adapter);
    let router = pairs.iter().find(|(name, _)| *name == "blk.0.ffn_gate_inp.weight").expect("router");
    assert_eq!((router.1.rank, router.1.rows()), (16, 8));
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("adapter.gguf");
    adapter.write(&path).expect("write");
    assert_eq!(AdapterFile::read(&path).expect("read"), adapter);
}
