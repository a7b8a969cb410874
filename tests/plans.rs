//! Plans as text against committed snapshots (`UPDATE_SNAPSHOTS=1` rewrites them), and what every plan must keep:
//! slots do not clash, views fit, and no buffer grows with tokens x tokens or tokens x vocabulary.

use std::collections::HashMap;
use std::path::Path;

use loam::backend::cpu::CpuBackend;
use loam::plan::{Checkpointing, Location, Plan};
use loam::{Base, Engine, NewAdapter, TrainOptions, Trainer};
use loam_shaders::Access;
use loam_tests::{convert_asset, new_session, new_trainer};

fn cpu() -> Box<CpuBackend> {
    Box::new(CpuBackend::new(Some(1)).expect("cpu back end"))
}

fn micro() -> Base {
    Base::open(convert_asset("loam-micro", "q4_0")).expect("base")
}

fn trainer(base: &Base, batch: usize, context: usize) -> (Engine, Trainer) {
    trainer_with(base, batch, context, Checkpointing::None)
}

fn trainer_with(base: &Base, batch: usize, context: usize, checkpointing: Checkpointing) -> (Engine, Trainer) {
    let adapter = NewAdapter { rank: 4, ..NewAdapter::default() };
    let options =
        TrainOptions { adapter, batch, context, checkpointing: Some(checkpointing), ..TrainOptions::default() };
    new_trainer(base, cpu(), None, options).expect("trainer")
}

fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).expect("write snapshot");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = expected.lines().zip(text.lines()).enumerate().find(|(_, (e, f))| e != f);
    assert!(expected == text, "{name} differs from its snapshot, first at {difference:?}; UPDATE_SNAPSHOTS=1 accepts");
}

#[test]
fn plans_print_as_their_snapshots() {
    let base = micro();
    let (engine, session) = new_session(&base, cpu(), 64, &[]).expect("session");
    let storage = &engine.storage;
    snapshot("micro-decode.txt", &session.plan(&engine, 1, false).print(storage));
    snapshot("micro-prefill.txt", &session.plan(&engine, 32, false).print(storage));
    let (engine, trainer) = trainer(&base, 2, 16);
    snapshot("micro-train.txt", &trainer.plan(&engine).print(&engine.storage));
    let (engine, trainer) = trainer_with(&base, 2, 16, Checkpointing::Layers);
    snapshot("micro-train-checkpointed.txt", &trainer.plan(&engine).print(&engine.storage));
}

/// Replays who wrote what: every read must see the last value written under the same name in a plan without sharing.
fn slots_do_not_clash(plan: &Plan) {
    let mut live: HashMap<u32, usize> = HashMap::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        for (view, binding) in node.operands.iter().zip(node.call.kernel.source.bindings) {
            if let Location::Slot(slot) = view.location {
                match binding.access {
                    Access::Read => assert!(live.contains_key(&slot), "node {index} reads slot {slot} unwritten"),
                    Access::ReadWrite => _ = live.insert(slot, index),
                }
            }
        }
    }
}

#[test]
fn plans_are_sound() {
    let base = micro();
    let (engine, session) = new_session(&base, cpu(), 64, &[]).expect("session");
    let (training, trainer) = trainer(&base, 2, 48);
    let (less, checkpointed) = trainer_with(&base, 2, 48, Checkpointing::Layers);
    let plans = [
        (session.plan(&engine, 1, false), &engine.storage),
        (session.plan(&engine, 32, true), &engine.storage),
        (trainer.plan(&training), &training.storage),
        (checkpointed.plan(&less), &less.storage),
    ];
    for (plan, storage) in &plans {
        assert!(plan.conflict().is_none(), "{}: {:?}", plan.name, plan.conflict());
        assert!(plan.views_fit(storage), "{}", plan.name);
        slots_do_not_clash(plan);
    }
}

#[test]
fn training_has_no_buffer_of_tokens_squared_or_tokens_by_vocabulary() {
    let base = Base::open(convert_asset("loam-tiny", "q4_0")).expect("base");
    let (batch, context) = (1, 1024);
    let (engine, trainer) = trainer(&base, batch, context);
    let plan = trainer.plan(&engine);
    let tokens = (batch * context) as u64;
    let bound = (tokens * tokens).min(tokens * base.config().vocabulary as u64);
    let stored = engine.storage.entries().map(|(_, entry)| entry.words);
    for words in plan.slots.iter().copied().chain(stored) {
        // The vocabulary itself (4,096 x 256 weights) is as large as 1,024 tokens squared.
        assert!(words < bound || words == engine.weights.token_embd.parts[0].words, "a buffer of {words} words");
    }
    // Attention and loss at work: twice the tokens take about twice the memory, not four times.
    let (engine, half) = self::trainer(&base, 1, 512);
    let half = half.plan(&engine).slot_bytes();
    let full = plan.slot_bytes();
    assert!(full as f64 <= 2.2 * half as f64, "{full} bytes at {context} tokens, {half} at half of them");
}

/// What a layer leaves for the reverse pass is its input alone, so that the memory of twelve layers is that of one
/// and twelve inputs.
#[test]
fn checkpointed_layers_share_their_memory() {
    let base = Base::open(convert_asset("loam-tiny", "q4_0")).expect("base");
    let plan = |checkpointing| {
        let (engine, trainer) = trainer_with(&base, 1, 512, checkpointing);
        trainer.plan(&engine)
    };
    let (all, layers) = (plan(Checkpointing::None), plan(Checkpointing::Layers));
    assert!(layers.slot_bytes() * 4 < all.slot_bytes(), "{} of {} bytes", layers.slot_bytes(), all.slot_bytes());
    // Nothing is computed twice but what a gradient needs: no layer's own result, which ends with the down projection.
    let count = |plan: &Plan, label: &str, kernel: &str| {
        let named = |n: &&loam::plan::Node| n.label == label && n.call.kernel.name().starts_with(kernel);
        plan.nodes.iter().filter(named).count()
    };
    for (label, kernel, times) in [
        ("blk.1.ffn_up.weight", "matmul_tile", 2),
        ("blk.1.ffn_down.weight", "matmul_tile", 1),
        ("blk.1.ffn_residual", "elementwise_add", 1),
    ] {
        assert_eq!(count(&all, label, kernel), 1, "{label}");
        assert_eq!(count(&layers, label, kernel), times, "{label} with checkpointing");
    }
}

#[test]
fn adapters_on_a_late_layer_leave_early_layers_without_gradient() {
    let base = micro();
    let (engine, all) = trainer(&base, 1, 8);
    let all = all.plan(&engine).nodes.len();
    let adapter = NewAdapter { rank: 4, targets: Some("attn_q".parse().expect("targets")), ..NewAdapter::default() };
    let options = TrainOptions { adapter, batch: 1, context: 8, ..TrainOptions::default() };
    let (engine, some) = new_trainer(&base, cpu(), None, options).expect("trainer");
    let some = some.plan(&engine);
    assert!(some.nodes.len() < all);
    // The first layer's input needs no gradient: its norm has no backward node.
    let backward =
        |label: &str| some.nodes.iter().any(|n| n.label == label && n.call.kernel.name() == "rmsnorm_backward");
    assert!(!backward("blk.0.attn_norm") && backward("blk.1.attn_norm"));
}
