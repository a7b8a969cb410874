//! The memory of a training is known before it starts: the plan of a run against what its back end has counted in the
//! end, and budgets that are kept or refused.

use loam::backend::{DeviceInfo, Kind};
use loam::data::Batch;
use loam::plan::Checkpointing;
use loam::train::{MemoryPlan, Scope, fit, plan};
use loam::{Base, Engine, Error, NewAdapter, TrainOptions, Trainer};
use loam_tests::{back_ends, convert_asset, full_batch, new_trainer, some_rows};

fn options(rank: usize, batch: usize, context: usize, checkpointing: Option<Checkpointing>) -> TrainOptions {
    let adapter = NewAdapter { rank, ..NewAdapter::default() };
    TrainOptions { adapter, batch, context, checkpointing, ..TrainOptions::default() }
}

/// What a run does to memory: two steps, perhaps an evaluation and a checkpoint, and the adapter read back.
fn run(engine: &mut Engine, trainer: &mut Trainer, batch: &[Batch], evaluates: bool) {
    if evaluates {
        pollster::block_on(trainer.evaluate(engine, batch)).expect("evaluation");
    }
    for _ in 0..2 {
        pollster::block_on(trainer.step(engine, batch, 1e-3)).expect("step");
    }
    if evaluates {
        pollster::block_on(trainer.buffers(engine, false)).expect("checkpoint");
    } else {
        // The last step's rows.
        pollster::block_on(trainer.evaluate(engine, batch)).expect("evaluation");
    }
    pollster::block_on(trainer.adapter(engine)).expect("adapter");
}

#[test]
fn the_plan_is_what_the_back_end_counts() {
    let base = Base::open(convert_asset("loam-micro", "q4_0")).expect("base");
    // (rank, batch, context, whether there is held-out data)
    for (rank, batch, context, evaluates) in
        [(4, 1, 24, false), (4, 3, 24, true), (16, 2, 100, true), (16, 1, 100, false)]
    {
        for checkpointing in [Checkpointing::None, Checkpointing::Layers] {
            for (device, backend) in back_ends() {
                let options = options(rank, batch, context, Some(checkpointing));
                let scope = Scope { evaluates, checkpoints: evaluates, ..Scope::default() };
                let predicted = plan(&base, backend.info(), None, &options, scope);
                let predicted = pollster::block_on(predicted).expect("plan");
                let (mut engine, mut trainer) = new_trainer(&base, backend, None, options).expect("trainer");
                run(&mut engine, &mut trainer, &[full_batch(&some_rows(batch, context, 4096))], evaluates);
                let measured = engine.memory();
                let what = format!("rank {rank}, {batch} x {context}, {checkpointing:?}, {device}, {evaluates}");
                assert_eq!(predicted.peak_device_bytes, measured.peak_bytes, "{what}");
                assert!(predicted.pools.values().sum::<u64>() <= measured.peak_bytes, "{what}");
            }
        }
    }
}

/// On a GPU with memory of its own: a budget bounds its buffers alone, and not what else is in this process.
fn fitted(base: &Base, options: &TrainOptions) -> loam::Result<(TrainOptions, MemoryPlan)> {
    let gpu = DeviceInfo { kind: Kind::DiscreteGpu, ..back_ends().remove(0).1.info().clone() };
    pollster::block_on(fit(base, &gpu, None, options, Scope { evaluates: true, ..Scope::default() }))
}

#[test]
fn a_budget_is_kept_or_refused_with_one_that_works() {
    let base = Base::open(convert_asset("loam-tiny", "q4_0")).expect("base");
    let open = options(8, 4, 256, None);
    let (asked, all) = fitted(&base, &open).expect("no budget");
    assert_eq!((asked.batch, asked.accumulate, all.checkpointing), (4, 1, Checkpointing::None));
    // A little less than everything, then as little as there can be.
    let with = |budget| TrainOptions { budget: Some(budget), ..open.clone() };
    let (less, plan) = fitted(&base, &with(all.budget() - 1)).expect("a little less");
    assert!(plan.budget() < all.budget());
    assert_eq!(less.batch * less.accumulate, 4, "the rows of a step stay the same");
    let needed = match fitted(&base, &with(1 << 20)) {
        Err(Error::OverBudget { budget, needed }) => {
            assert_eq!(budget, 1 << 20);
            needed
        }
        other => panic!("a MiB is enough: {other:?}"),
    };
    let (least, plan) = fitted(&base, &with(needed)).expect("the smallest budget");
    assert_eq!((least.batch, least.accumulate, plan.checkpointing), (1, 4, Checkpointing::Layers));
    assert!(plan.budget() == needed && needed * 3 < all.budget(), "{plan:?}");
    // What is asked for is not changed.
    let fixed = TrainOptions { checkpointing: Some(Checkpointing::None), ..with(needed) };
    assert!(matches!(fitted(&base, &fixed), Err(Error::OverBudget { .. })));
}

#[test]
fn layers_are_computed_again_where_a_gpu_is_too_small() {
    let base = Base::open(convert_asset("loam-micro", "q4_0")).expect("base");
    let open = options(8, 2, 100, None);
    let on = |memory_bytes| {
        let gpu = DeviceInfo { kind: Kind::DiscreteGpu, memory_bytes, ..back_ends().remove(0).1.info().clone() };
        pollster::block_on(fit(&base, &gpu, None, &open, Scope::default())).expect("no budget").1
    };
    let unknown = on(None);
    assert_eq!(unknown.checkpointing, Checkpointing::None);
    assert_eq!(on(Some(unknown.peak_device_bytes * 2)), unknown);
    // Others use a GPU too: all of it is not for the run.
    let tight = on(Some(unknown.peak_device_bytes));
    assert_eq!(tight.checkpointing, Checkpointing::Layers);
    assert!(tight.peak_device_bytes < unknown.peak_device_bytes);
}

#[test]
fn an_evaluation_runs_in_the_memory_of_the_training() {
    let base = Base::open(convert_asset("loam-tiny", "q4_0")).expect("base");
    for (device, backend) in back_ends() {
        let gpu = backend.info().kind != Kind::Cpu;
        let (mut engine, mut trainer) = new_trainer(&base, backend, None, options(8, 1, 64, None)).expect("trainer");
        let before = engine.memory().current_bytes();
        pollster::block_on(trainer.evaluate(&mut engine, &[full_batch(&some_rows(1, 64, 4096))])).expect("evaluation");
        let more = engine.memory().current_bytes() - before;
        // A GPU has the parameters of its kernels besides.
        assert!(more <= if gpu { 256 << 10 } else { 0 }, "{more} bytes more on {device}");
    }
}
