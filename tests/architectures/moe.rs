//! Experts beyond what the golden values show: quantised, in pieces, with tiles of many tokens, and adapters on them.

use std::collections::BTreeSet;
use std::path::Path;

use loam::adapter::{Attach, Pair};
use loam::backend::Backend;
use loam::plan::Plan;
use loam::{AdapterFile, Base, LoraOptions, Session, TrainOptions, Trainer};
use loam_shaders::Format;
use loam_tests::{Limited, back_ends, full_batch, relative, some_rows};

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
    let mut session = Session::new(base, backend, 16, &[]).expect("session");
    let mut all = pollster::block_on(session.feed_all(&rows[0])).expect("logits");
    all.extend(pollster::block_on(session.feed(&[7])).expect("logits"));
    all
}

/// Gradients of the second step, in which A has one too.
fn gradients(base: &Base, backend: Box<dyn Backend>) -> AdapterFile {
    let lora = LoraOptions { rank: 4, ..LoraOptions::default() };
    let options = TrainOptions { lora, batch: 1, context: 16, clip: 0.0, ..TrainOptions::default() };
    let mut trainer = Trainer::new(base, backend, None, options).expect("trainer");
    let batch = [full_batch(&some_rows(1, 16, VOCABULARY))];
    pollster::block_on(trainer.step(&batch, 1e-2)).expect("step");
    pollster::block_on(trainer.accumulate(&batch)).expect("step");
    pollster::block_on(trainer.gradients()).expect("gradients")
}

fn compare(what: &str, found: &AdapterFile, expected: &AdapterFile) {
    assert_eq!(found.tensors.len(), expected.tensors.len());
    for ((name, found), (_, expected)) in found.tensors.iter().zip(&expected.tensors) {
        let error = relative(&found.a, &expected.a).max(relative(&found.b, &expected.b));
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
            assert!(slopes.tensors.iter().any(|(name, _)| name == "blk.0.ffn_gate_inp.weight"));
            let split = gradients(&base, Limited::boxed(backend, LIMIT));
            compare(&format!("{format} on {device}"), &split, slopes);
        }
    }
}

/// Pairs are sorted by expert where tiles make use of it, and their products run in the base's own format.
#[test]
fn plans_sort_pairs_for_many_tokens_only() {
    let (_folder, base) = base(Format::Q4_0);
    let session = Session::new(&base, back_ends().remove(0).1, 64, &[]).expect("session");
    let kernels = |plan: Plan| plan.nodes.iter().map(|node| node.call.kernel.name()).collect::<BTreeSet<_>>();
    let (decode, prefill) = (kernels(session.plan(1, 1)), kernels(session.plan(32, 1)));
    assert!(decode.contains("moe_vector_q4_0") && !decode.contains("moe_place"), "{decode:?}");
    assert!(prefill.contains("moe_tile_q4_0") && prefill.contains("moe_place"), "{prefill:?}");
    assert!(!prefill.contains("moe_transposed_q4_0") && !prefill.contains("moe_vector_q4_0"), "{prefill:?}");
}

/// llama.cpp's adapters may hold an update per expert. Leaving it out would be another model.
#[test]
fn an_adapter_on_experts_is_refused_by_name() {
    let (_folder, base) = base(Format::F32);
    let name = "blk.1.ffn_up_exps.weight";
    let pair = Pair { a: vec![0.1; 64], b: vec![0.1; 32], rank: 1, matrices: 1 };
    let architecture = "qwen3moe".to_owned();
    let tensors = vec![(name.to_owned(), pair)];
    let adapter = AdapterFile { architecture, alpha: 1.0, tensors, metadata: Vec::new() };
    let attach = [Attach { adapter: &adapter, path: Path::new("adapter.gguf"), scale: 1.0 }];
    let error = Session::new(&base, back_ends().remove(0).1, 16, &attach).err().expect("refused").to_string();
    assert!(error.contains(name) && error.contains("linear layers"), "{error}");
}
