//! One engine and its tenants: the weights travel to the device once, and what a tenant had is free when it is dropped.

use std::path::Path;
use std::sync::atomic::Ordering;

use loam::adapter::Attach;
use loam::engine::AdapterHandle;
use loam::evaluate::Scorer;
use loam::generate::{Feed, Room, Runner, Sequence};
use loam::importance::Collector;
use loam::plan::Pool;
use loam::{AdapterFile, Base, Engine, Error, NewAdapter, Session, TrainOptions, Trainer};
use loam_shaders::attention::BLOCK;
use loam_tests::counted::Counted;
use loam_tests::{back_ends, convert_asset, full_batch, relative, some_rows};
use pollster::block_on;

const CONTEXT: usize = 12;

fn base() -> Base {
    Base::open(convert_asset("loam-micro", "q4_0")).expect("base")
}

fn options() -> TrainOptions {
    let adapter = NewAdapter { rank: 4, ..NewAdapter::default() };
    TrainOptions { adapter, batch: 2, context: CONTEXT, ..TrainOptions::default() }
}

fn logits(engine: &mut Engine, adapters: &AdapterHandle) -> Vec<f32> {
    let mut session = block_on(Session::new(engine, CONTEXT, adapters)).expect("session");
    block_on(session.feed_all(engine, &some_rows(1, CONTEXT, 4096)[0])).expect("logits")
}

fn loss(engine: &mut Engine, adapters: &AdapterHandle) -> f64 {
    let mut scorer = block_on(Scorer::new(engine, adapters, 2, CONTEXT)).expect("scorer");
    block_on(scorer.loss(engine, &[full_batch(&some_rows(2, CONTEXT, 4096))])).expect("loss").0
}

/// log softmax(logits)[label].
fn log_probability(logits: &[f32], label: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - largest).exp()).sum();
    f64::from(logits[label as usize] - largest) - sum.ln()
}

#[test]
fn a_scorer_knows_the_log_probability_of_each_label() {
    let base = base();
    let rows = some_rows(1, CONTEXT, 4096);
    for (name, backend) in back_ends() {
        let mut engine = Engine::new(&base, backend).expect("engine");
        let all = logits(&mut engine, &AdapterHandle::none());
        let expected = (1..CONTEXT).map(|t| log_probability(&all[(t - 1) * 4096..t * 4096], rows[0][t]));
        let mut scorer = block_on(Scorer::new(&mut engine, &AdapterHandle::none(), 1, CONTEXT)).expect("scorer");
        let found = block_on(scorer.log_probabilities(&mut engine, &full_batch(&rows))).expect("scores");
        assert_eq!(found.len(), CONTEXT - 1, "{name}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{name}: {found} instead of {expected}");
        }
    }
}

/// An adapter of two steps.
fn trained(engine: &mut Engine) -> AdapterFile {
    let mut trainer = block_on(Trainer::new(engine, None, options())).expect("trainer");
    for _ in 0..2 {
        block_on(trainer.step(engine, &[full_batch(&some_rows(2, CONTEXT, 4096))], 1e-2)).expect("step");
    }
    block_on(trainer.adapter(engine)).expect("adapter")
}

fn attach(engine: &mut Engine, base: &Base, adapter: &AdapterFile) -> AdapterHandle {
    engine.attach(base, &[Attach { adapter, path: Path::new("a.gguf"), scale: 1.0 }]).expect("fits")
}

/// Bytes of each pool, without read-back memory, which is kept for the next read.
fn pools(engine: &mut Engine) -> Vec<(Pool, u64)> {
    let pools = engine.memory().current.iter();
    pools.map(|(pool, bytes)| (*pool, *bytes)).filter(|(pool, bytes)| *pool != Pool::Staging && *bytes > 0).collect()
}

#[test]
fn all_tenants_share_one_upload_of_the_weights() {
    let base = base();
    for (device, backend) in back_ends() {
        let (backend, weights) = Counted::boxed(backend);
        let mut engine = Engine::new(&base, backend).expect("engine");
        let (plain, before) = (logits(&mut engine, &AdapterHandle::none()), loss(&mut engine, &AdapterHandle::none()));
        let once = weights.load(Ordering::Relaxed);
        assert!(once > 0, "{device}");
        let adapter = trained(&mut engine);
        let adapters = attach(&mut engine, &base, &adapter);
        assert_ne!(logits(&mut engine, &adapters), plain, "{device}");
        assert!(loss(&mut engine, &adapters) < before, "{device}");
        assert_eq!(logits(&mut engine, &AdapterHandle::none()), plain, "{device}: the base is as it was");
        let mut collector = block_on(Collector::new(&base, &mut engine, CONTEXT)).expect("collector");
        block_on(collector.run(&mut engine, &some_rows(1, CONTEXT, 4096)[0])).expect("chunk");
        assert_eq!(weights.load(Ordering::Relaxed), once, "{device}");
    }
}

#[test]
fn a_tenant_that_is_dropped_leaves_nothing() {
    let base = base();
    for (device, backend) in back_ends() {
        let mut engine = Engine::new(&base, backend).expect("engine");
        block_on(engine.allocate(&[])).expect("weights");
        let alone = pools(&mut engine);
        assert!(alone.iter().any(|(pool, _)| *pool == Pool::Weights), "{device}: {alone:?}");
        logits(&mut engine, &AdapterHandle::none());
        assert_eq!(pools(&mut engine), alone, "{device}: a session");
        let adapter = trained(&mut engine);
        assert_eq!(pools(&mut engine), alone, "{device}: a trainer");
        loss(&mut engine, &AdapterHandle::none());
        assert_eq!(pools(&mut engine), alone, "{device}: a scorer");
        drop(block_on(Collector::new(&base, &mut engine, CONTEXT)).expect("collector"));
        assert_eq!(pools(&mut engine), alone, "{device}: a collector");
        let entries = engine.storage.entries().count();
        drop(attach(&mut engine, &base, &adapter));
        assert_eq!(pools(&mut engine), alone, "{device}: an adapter that nothing ran with");
        assert_eq!(engine.storage.entries().count(), entries, "{device}: its declaration is gone");
        // A tenant keeps the adapters that it runs with.
        let adapters = attach(&mut engine, &base, &adapter);
        let session = block_on(Session::new(&mut engine, CONTEXT, &adapters)).expect("session");
        drop(adapters);
        assert!(pools(&mut engine).iter().any(|(pool, _)| *pool == Pool::Adapter), "{device}");
        drop(session);
        assert_eq!(pools(&mut engine), alone, "{device}: a session with adapters");
    }
}

#[test]
fn ids_are_used_again_and_errors_leave_nothing() {
    let base = base();
    let mut engine = Engine::new(&base, back_ends().remove(0).1).expect("engine");
    logits(&mut engine, &AdapterHandle::none());
    let most = engine.storage.entries().map(|(id, _)| id.0).max();
    let alone = pools(&mut engine);
    for _ in 0..3 {
        logits(&mut engine, &AdapterHandle::none());
        let error = block_on(Trainer::new(&mut engine, None, TrainOptions { batch: 1 << 20, ..options() })).err();
        assert!(matches!(error, Some(Error::OutOfMemory { .. } | Error::Limit { .. })), "{error:?}");
        assert_eq!(pools(&mut engine), alone);
    }
    assert!(engine.storage.entries().map(|(id, _)| id.0).max() <= most);
}

#[test]
fn tenants_of_another_engine_are_refused() {
    let base = base();
    let engine = || Engine::new(&base, back_ends().remove(0).1).expect("engine");
    let (mut one, mut other) = (engine(), engine());
    let adapter = trained(&mut one);
    let adapters = attach(&mut one, &base, &adapter);
    assert!(matches!(block_on(Session::new(&mut other, CONTEXT, &adapters)).err(), Some(Error::Argument(_))));
    let mut session = block_on(Session::new(&mut one, CONTEXT, &adapters)).expect("session");
    assert!(matches!(block_on(session.feed(&mut other, &[1])).err(), Some(Error::Argument(_))));
    assert!(block_on(session.feed(&mut one, &[1])).is_ok());
}

/// An actor's thread may own an engine and its tenants.
#[test]
fn engines_and_tenants_can_be_sent_to_another_thread() {
    fn sent<T: Send>() {}
    sent::<Engine>();
    sent::<AdapterHandle>();
    sent::<Session>();
    sent::<Scorer>();
    sent::<Trainer>();
    sent::<Collector>();
    let base = base();
    let mut engine = Engine::new(&base, back_ends().remove(0).1).expect("engine");
    let here = logits(&mut engine, &AdapterHandle::none());
    let there = std::thread::spawn(move || logits(&mut engine, &AdapterHandle::none())).join().expect("thread");
    assert_eq!(here, there);
}

/// Prompts of three sequences and how many tokens follow, so that they are at different places all the time.
fn prompts() -> [(Vec<u32>, usize); 3] {
    let tokens = |stream: usize, length: usize| some_rows(stream + 1, length, 4096).remove(stream);
    [(tokens(0, 3), 9), (tokens(1, 40), 4), (tokens(2, 17), 7)]
}

/// Logits after the prompt and after each token that follows, of one sequence alone.
fn alone(engine: &mut Engine, adapters: &AdapterHandle, (prompt, count): &(Vec<u32>, usize)) -> Vec<Vec<f32>> {
    let mut session = block_on(Session::new(engine, 64, adapters)).expect("session");
    let mut all = vec![block_on(session.feed(engine, prompt)).expect("logits")];
    for token in 0..*count as u32 {
        all.push(block_on(session.feed(engine, &[token])).expect("logits"));
    }
    all
}

/// The same of all three together: the second and third come when the first is under way, and each step continues all.
fn together(engine: &mut Engine, adapters: [&AdapterHandle; 3]) -> [Vec<Vec<f32>>; 3] {
    let mut runner = block_on(Runner::new(engine, Room { tokens: 192, context: 64 })).expect("runner");
    let mut sequences = adapters.map(|adapters| runner.sequence(adapters));
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    let prompts = prompts();
    for step in 0..20 {
        // What each sequence takes in this step: the prompt in its own step, then a token at a time.
        let tokens: Vec<Vec<u32>> = (0..3)
            .map(|index| match step as usize {
                step if step < index => Vec::new(),
                step if step == index => prompts[index].0.clone(),
                step if step - index <= prompts[index].1 => vec![(step - index - 1) as u32],
                _ => Vec::new(),
            })
            .collect();
        let fed = sequences.iter_mut().zip(&tokens).enumerate().filter(|(_, (_, tokens))| !tokens.is_empty());
        let (places, mut feeds): (Vec<usize>, Vec<Feed<'_>>) =
            fed.map(|(index, (sequence, tokens))| (index, Feed { sequence, tokens })).unzip();
        if feeds.is_empty() {
            continue;
        }
        let logits = block_on(runner.step(engine, &mut feeds)).expect("step");
        places.into_iter().zip(logits).for_each(|(index, logits)| all[index].push(logits));
    }
    drop(sequences);
    assert_eq!(runner.free_blocks(), runner.blocks(), "all blocks are free again");
    all
}

/// With the base alone, and with another adapter for each. Programs of other numbers of tokens sum in another order.
#[test]
fn sequences_at_different_places_compute_what_each_computes_alone() {
    let base = base();
    for (device, backend) in back_ends() {
        let mut engine = Engine::new(&base, backend).expect("engine");
        let adapter = trained(&mut engine);
        let (none, some) = (AdapterHandle::none(), attach(&mut engine, &base, &adapter));
        for adapters in [[&none; 3], [&none, &some, &none]] {
            let found = together(&mut engine, adapters);
            for ((found, adapters), prompt) in found.iter().zip(adapters).zip(&prompts()) {
                let expected = alone(&mut engine, adapters, prompt);
                assert_eq!(found.len(), expected.len(), "{device}");
                for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let error = relative(found, expected);
                    assert!(error <= 1e-5, "{device}, step {step}: {error:.1e}");
                }
            }
        }
    }
}

/// Where runs are of one size, what else is in a run does not change a bit.
#[test]
fn sequences_in_runs_of_one_size_have_the_same_bits() {
    let base = base();
    let tokens = |stream: usize, length: usize| some_rows(stream + 1, length, 4096).remove(stream);
    let (first, second, third) = (tokens(0, 5), tokens(1, 30), tokens(2, 40));
    for (device, backend) in back_ends() {
        let mut engine = Engine::new(&base, backend).expect("engine");
        let mut runner = block_on(Runner::new(&mut engine, Room { tokens: 256, context: 128 })).expect("runner");
        let mut sequences = [0, 1, 2].map(|_| runner.sequence(&AdapterHandle::none()));
        let [one, two, three] = &mut sequences;
        // A hole in the middle of the blocks: what comes after it is not side by side.
        for (sequence, tokens) in [(&mut *one, &first), (&mut *two, &second), (&mut *three, &third)] {
            block_on(runner.step(&mut engine, &mut [Feed { sequence, tokens }])).expect("step");
        }
        two.truncate(0);
        let run = |runner: &mut Runner, engine: &mut Engine, sequence: &mut Sequence, other: &mut Sequence| {
            let (a, b) = (tokens(3, 35), tokens(4, 40));
            let feeds = &mut [Feed { sequence, tokens: &a }, Feed { sequence: other, tokens: &b }];
            block_on(runner.step(engine, feeds)).expect("step").remove(0)
        };
        let crowded = run(&mut runner, &mut engine, two, three);
        let mut fresh = block_on(Runner::new(&mut engine, Room { tokens: 256, context: 128 })).expect("runner");
        let mut sequences = [0, 1].map(|_| fresh.sequence(&AdapterHandle::none()));
        let [sequence, other] = &mut sequences;
        assert_eq!(run(&mut fresh, &mut engine, sequence, other), crowded, "{device}");
    }
}

#[test]
fn a_full_cache_is_a_typed_error_that_changes_nothing() {
    let base = base();
    let mut engine = Engine::new(&base, back_ends().remove(0).1).expect("engine");
    let mut runner =
        block_on(Runner::new(&mut engine, Room { tokens: 3 * BLOCK, context: 4 * BLOCK })).expect("runner");
    let (mut one, mut two) = (runner.sequence(&AdapterHandle::none()), runner.sequence(&AdapterHandle::none()));
    let tokens = some_rows(1, 2 * BLOCK, 4096).remove(0);
    block_on(runner.step(&mut engine, &mut [Feed { sequence: &mut one, tokens: &tokens }])).expect("two blocks");
    let feeds = &mut [Feed { sequence: &mut one, tokens: &[1] }, Feed { sequence: &mut two, tokens: &[2] }];
    let full = block_on(runner.step(&mut engine, feeds)).err();
    assert!(matches!(full, Some(Error::CacheFull { needed: 2, free: 1 })), "{full:?}");
    assert_eq!((one.len(), two.len(), runner.free_blocks()), (2 * BLOCK, 0, 1));
    drop(one);
    block_on(runner.step(&mut engine, &mut [Feed { sequence: &mut two, tokens: &tokens }])).expect("there is room");
    let long = vec![1; 4 * BLOCK];
    let limit = block_on(runner.step(&mut engine, &mut [Feed { sequence: &mut two, tokens: &long }])).err();
    assert!(matches!(limit, Some(Error::Limit { .. })), "{limit:?}");
    let mut other = block_on(Runner::new(&mut engine, Room { tokens: BLOCK, context: BLOCK })).expect("runner");
    let mixed = block_on(other.step(&mut engine, &mut [Feed { sequence: &mut two, tokens: &[1] }])).err();
    assert!(matches!(mixed, Some(Error::Argument(_))), "a sequence of another runner: {mixed:?}");
}

/// Programs end with the adapters that they run with, also where the runner lives on.
#[test]
fn programs_end_with_their_adapters() {
    let base = base();
    for (device, backend) in back_ends() {
        let mut engine = Engine::new(&base, backend).expect("engine");
        let adapter = trained(&mut engine);
        let mut runner = block_on(Runner::new(&mut engine, Room { tokens: 64, context: 64 })).expect("runner");
        let mut step = |engine: &mut Engine, adapters: &AdapterHandle| {
            let mut sequence = runner.sequence(adapters);
            block_on(runner.step(engine, &mut [Feed { sequence: &mut sequence, tokens: &[5] }])).expect("step")
        };
        let plain = step(&mut engine, &AdapterHandle::none());
        let before = pools(&mut engine);
        for _ in 0..2 {
            let adapters = attach(&mut engine, &base, &adapter);
            assert_ne!(step(&mut engine, &adapters), plain, "{device}");
            assert_ne!(pools(&mut engine), before, "{device}");
            drop(adapters);
            assert_eq!(pools(&mut engine), before, "{device}");
        }
        assert_eq!(step(&mut engine, &AdapterHandle::none()), plain, "{device}");
    }
}
