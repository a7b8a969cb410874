//! One engine and its tenants: the weights travel to the device once, and what a tenant had is free when it is dropped.

use std::path::Path;
use std::sync::atomic::Ordering;

use loam::adapter::Attach;
use loam::engine::AdapterHandle;
use loam::evaluate::Scorer;
use loam::importance::Collector;
use loam::plan::Pool;
use loam::{AdapterFile, Base, Engine, Error, NewAdapter, Session, TrainOptions, Trainer};
use loam_tests::counted::Counted;
use loam_tests::{back_ends, convert_asset, full_batch, some_rows};
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
    let mut session = Session::new(engine, CONTEXT, adapters).expect("session");
    block_on(session.feed_all(engine, &some_rows(1, CONTEXT, 4096)[0])).expect("logits")
}

fn loss(engine: &mut Engine, adapters: &AdapterHandle) -> f64 {
    let mut scorer = Scorer::new(engine, adapters, 2, CONTEXT).expect("scorer");
    block_on(scorer.loss(engine, &[full_batch(&some_rows(2, CONTEXT, 4096))])).expect("loss").0
}

/// An adapter of two steps.
fn trained(engine: &mut Engine) -> AdapterFile {
    let mut trainer = Trainer::new(engine, None, options()).expect("trainer");
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
        let mut collector = Collector::new(&base, &mut engine, CONTEXT).expect("collector");
        block_on(collector.run(&mut engine, &some_rows(1, CONTEXT, 4096)[0])).expect("chunk");
        assert_eq!(weights.load(Ordering::Relaxed), once, "{device}");
    }
}

#[test]
fn a_tenant_that_is_dropped_leaves_nothing() {
    let base = base();
    for (device, backend) in back_ends() {
        let mut engine = Engine::new(&base, backend).expect("engine");
        engine.allocate(&[]).expect("weights");
        let alone = pools(&mut engine);
        assert!(alone.iter().any(|(pool, _)| *pool == Pool::Weights), "{device}: {alone:?}");
        logits(&mut engine, &AdapterHandle::none());
        assert_eq!(pools(&mut engine), alone, "{device}: a session");
        let adapter = trained(&mut engine);
        assert_eq!(pools(&mut engine), alone, "{device}: a trainer");
        loss(&mut engine, &AdapterHandle::none());
        assert_eq!(pools(&mut engine), alone, "{device}: a scorer");
        drop(Collector::new(&base, &mut engine, CONTEXT).expect("collector"));
        assert_eq!(pools(&mut engine), alone, "{device}: a collector");
        let entries = engine.storage.entries().count();
        drop(attach(&mut engine, &base, &adapter));
        assert_eq!(pools(&mut engine), alone, "{device}: an adapter that nothing ran with");
        assert_eq!(engine.storage.entries().count(), entries, "{device}: its declaration is gone");
        // A tenant keeps the adapters that it runs with.
        let adapters = attach(&mut engine, &base, &adapter);
        let session = Session::new(&mut engine, CONTEXT, &adapters).expect("session");
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
        let error = Trainer::new(&mut engine, None, TrainOptions { batch: 1 << 20, ..options() }).err();
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
    assert!(matches!(Session::new(&mut other, CONTEXT, &adapters).err(), Some(Error::Argument(_))));
    let mut session = Session::new(&mut one, CONTEXT, &adapters).expect("session");
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
