//! The same run twice gives the same bytes, on each back end; on the CPU with any number of threads. In half precision
//! the bytes are others, and as many times the same.

use loam::backend::cpu::CpuBackend;
use loam::backend::{Backend, Options, Precision, select};
use loam::plan::Checkpointing;
use loam::{AdapterFile, Base, NewAdapter, TrainOptions};
use loam_tests::{back_ends, convert_asset, flat, full_batch, new_trainer, relative, skipped, some_rows};

/// Three accumulated steps; the adapter's values as bits.
fn train(format: &str, backend: Box<dyn Backend>) -> Vec<u32> {
    let base = Base::open(convert_asset("loam-micro", format)).expect("base");
    let adapter = NewAdapter { rank: 4, seed: 5, ..NewAdapter::default() };
    let options = TrainOptions { adapter, batch: 2, context: 17, ..TrainOptions::default() };
    let (mut engine, mut trainer) = new_trainer(&base, backend, None, options).expect("trainer");
    for step in 0..3 {
        let rows = some_rows(4, 17 * (step + 1), 4096);
        let rows: Vec<_> = rows.iter().map(|row| row[row.len() - 17..].to_vec()).collect();
        let batches = [full_batch(&rows[..2]), full_batch(&rows[2..])];
        let report = pollster::block_on(trainer.step(&mut engine, &batches, 1e-3)).expect("step");
        assert!(report.grad_norm.is_finite() && report.grad_norm > 0.0);
    }
    bits(&pollster::block_on(trainer.adapter(&mut engine)).expect("adapter"))
}

fn bits(adapter: &AdapterFile) -> Vec<u32> {
    flat(adapter).into_iter().map(f32::to_bits).collect()
}

#[test]
fn the_same_run_gives_the_same_bits() {
    for format in ["q4_0", "q8_0"] {
        let runs = || back_ends().into_iter().map(|(device, backend)| (device, train(format, backend)));
        for ((device, first), (_, second)) in runs().zip(runs()) {
            assert!(first.iter().any(|&b| b != 0));
            assert_eq!(first, second, "{format} on {device}");
        }
    }
}

/// Losses, gradients and adapters of two steps, the second with an adapter that is not zero.
#[test]
fn checkpointing_does_not_change_the_bits() {
    let base = Base::open(convert_asset("loam-micro", "q4_0")).expect("base");
    let run = |backend, checkpointing, (dropout, neftune_noise_alpha)| {
        let adapter = NewAdapter { rank: 4, seed: 5, ..NewAdapter::default() };
        let checkpointing = Some(checkpointing);
        let options = TrainOptions { adapter, batch: 2, context: 17, checkpointing, ..TrainOptions::default() };
        let options = TrainOptions { dropout, neftune_noise_alpha, ..options };
        let (mut engine, mut trainer) = new_trainer(&base, backend, None, options).expect("trainer");
        let mut seen = Vec::new();
        for step in 0..2 {
            let batch = full_batch(&some_rows(2, 17, 4096 - step));
            let loss = pollster::block_on(trainer.accumulate(&mut engine, &[batch])).expect("step").loss;
            let gradients = pollster::block_on(trainer.gradients(&mut engine)).expect("gradients");
            pollster::block_on(trainer.update(&mut engine, 1e-2)).expect("update");
            let adapter = pollster::block_on(trainer.adapter(&mut engine)).expect("adapter");
            seen.push((loss.to_bits(), bits(&gradients), bits(&adapter)));
        }
        seen
    };
    // Masks and noise are drawn again where a layer is computed again. Without a mask an update takes the way of the
    // product.
    for random in [(0.25, 5.0), (0.0, 0.0)] {
        let one = |(device, backend), checkpointing| (device, run(backend, checkpointing, random));
        let runs = |checkpointing| back_ends().into_iter().map(move |each| one(each, checkpointing));
        for ((device, all), (_, layers)) in runs(Checkpointing::None).zip(runs(Checkpointing::Layers)) {
            assert!(all[1].1.iter().any(|&bits| bits != 0));
            assert!(all == layers, "{device}");
        }
    }
}

#[test]
fn threads_do_not_change_the_bits() {
    let run = |threads| train("q4_0", Box::new(CpuBackend::new(Some(threads)).expect("cpu back end")));
    let one = run(1);
    for threads in [2, 3, 7] {
        assert_eq!(one, run(threads), "{threads} threads");
    }
}

/// The gradient of a token is of the order of 1e-5: without the factors of rows most of it would vanish.
#[test]
fn half_precision_trains_close_to_single_precision_and_repeats_its_bits() {
    let open = |precision| pollster::block_on(select::open("gpu:0", &Options { precision, ..Options::default() }));
    let (Ok(single), Ok(half)) = (open(Precision::F32), open(Precision::F16)) else {
        return skipped("no GPU with half precision");
    };
    let base = Base::open(convert_asset("loam-micro", "q4_0")).expect("base");
    let run = |backend: Box<dyn Backend>| {
        let adapter = NewAdapter { rank: 4, seed: 5, ..NewAdapter::default() };
        let options = TrainOptions { adapter, batch: 2, context: 17, ..TrainOptions::default() };
        let single = backend.info().precision == Precision::F32;
        let (mut engine, mut trainer) = new_trainer(&base, backend, None, options).expect("trainer");
        // Updates must not take the products of the base back to single precision.
        let fused = trainer.plan(&engine).nodes.iter().any(|node| node.call.kernel.name().contains("lora"));
        assert_eq!(fused, single);
        let mut seen = Vec::new();
        for step in 0..3 {
            let batch = full_batch(&some_rows(2, 17, 4096 - step));
            let loss = pollster::block_on(trainer.accumulate(&mut engine, &[batch])).expect("step").loss;
            let gradients = pollster::block_on(trainer.gradients(&mut engine)).expect("gradients");
            pollster::block_on(trainer.update(&mut engine, 1e-2)).expect("update");
            seen.push((loss, bits(&gradients).into_iter().map(f32::from_bits).collect::<Vec<_>>()));
        }
        seen
    };
    let (expected, found) = (run(single), run(half));
    // AdamW's first update is the sign of each gradient times the rate: where one is next to nothing, the runs part.
    for (((loss, gradients), (half_loss, half_gradients)), bound) in expected.iter().zip(&found).zip([3e-3, 5e-2, 5e-2])
    {
        let (loss, gradients) = ((half_loss - loss).abs() / loss, relative(half_gradients, gradients));
        assert!(loss < 1e-3, "loss {loss:.1e}");
        assert!((1e-6..bound).contains(&gradients), "gradients {gradients:.1e}");
    }
    assert_eq!(run(open(Precision::F16).expect("opened before")), found);
}
