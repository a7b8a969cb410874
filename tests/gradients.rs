//! Every adapter gradient of a whole model against finite differences of its loss, on both back ends: needs nothing
//! but the committed model.

use std::path::Path;

use loam::adapter::Attach;
use loam::adapter::lora::{self, Pair, is_lookup};
use loam::backend::Backend;
use loam::plan::Checkpointing;
use loam::{AdapterFile, Base, NewAdapter, TrainOptions};
use loam_tests::{back_ends, convert_asset, fill_b, full_batch, new_scorer, new_trainer, parameter_errors, some_rows};

/// Length of the step along a gradient, relative to the parameters: truncation and f32 rounding of the loss balance.
const STEP: f64 = 2e-2;
/// Relative error of a directional derivative.
const BOUND: f64 = 2e-2;

fn options(rank: usize) -> TrainOptions {
    let adapter = NewAdapter { rank, alpha: 6.0, ..NewAdapter::default() };
    TrainOptions { adapter, batch: 2, context: 9, clip: 0.0, ..TrainOptions::default() }
}

/// An adapter with A and B different from zero, so that every gradient is.
fn adapter(base: &Base, backend: Box<dyn Backend>, options: TrainOptions) -> AdapterFile {
    let (mut engine, trainer) = new_trainer(base, backend, None, options).expect("trainer");
    let mut adapter = pollster::block_on(trainer.adapter(&mut engine)).expect("adapter");
    fill_b(&mut adapter, 11, 0.2);
    adapter
}

fn loss(base: &Base, backend: Box<dyn Backend>, adapter: &AdapterFile, batch: &loam::data::Batch) -> f64 {
    let attach = [Attach { adapter, path: Path::new("test"), scale: 1.0 }];
    let (mut engine, mut scorer) = new_scorer(base, backend, &attach, 2, 9).expect("scorer");
    pollster::block_on(scorer.loss(&mut engine, std::slice::from_ref(batch))).expect("loss").0
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

/// The loss differences are always taken on the CPU: the gradient of each back end has to agree with them.
#[test]
fn adapter_gradients_match_finite_differences() {
    // The kernels that add the update in the same pass take ranks that are multiples of four.
    for (format, rank) in [("f32", 3), ("q4_0", 4), ("q8_0", 12)] {
        let base = Base::open(convert_asset("loam-micro", format)).expect("base");
        let cpu = || back_ends().remove(0).1;
        let start = adapter(&base, cpu(), options(rank));
        let batch = full_batch(&some_rows(2, 9, 4096));
        for (device, backend) in back_ends() {
            let (mut engine, mut trainer) =
                new_trainer(&base, backend, Some(start.clone()), options(rank)).expect("trainer");
            pollster::block_on(trainer.accumulate(&mut engine, std::slice::from_ref(&batch))).expect("step");
            let gradients = pollster::block_on(trainer.gradients(&mut engine)).expect("gradients");
            for (index, gradient) in gradients.parameters.iter().enumerate() {
                let name = format!("{format} {} on {device}", gradient.name());
                let slope = norm(&gradient.values);
                assert!(slope > 0.0, "{name}: zero gradient");
                let moved = |sign: f64| {
                    let mut moved = start.clone();
                    let values = &mut moved.parameters[index].values;
                    let length = STEP * norm(values);
                    for (value, g) in values.iter_mut().zip(&gradient.values) {
                        *value += (sign * length / slope * f64::from(*g)) as f32;
                    }
                    (loss(&base, cpu(), &moved, &batch), length)
                };
                let ((up, length), (down, _)) = (moved(1.0), moved(-1.0));
                let found = (up - down) / (2.0 * length);
                let error = (found - slope).abs() / slope;
                assert!(error <= BOUND, "{name}: gradient {slope:.5e}, differences give {found:.5e}");
            }
        }
    }
}

/// `adapter` with a fourth rank of zeros, which changes nothing.
fn widened(adapter: &AdapterFile) -> AdapterFile {
    let widened = |values: &[f32]| values.chunks(3).flat_map(|row| [row[0], row[1], row[2], 0.0]).collect();
    let pairs = lora::pairs(adapter).into_iter().map(|(name, pair)| {
        let (inner, lookup) = (pair.inner(), is_lookup(name));
        let a = if lookup { widened(&pair.a) } else { [&pair.a[..], &vec![0.0; inner]].concat() };
        (name.to_owned(), Pair { a, b: widened(&pair.b), rank: 4, matrices: 1 })
    });
    lora::adapter(&adapter.architecture, lora::alpha(&adapter.settings) * 4.0 / 3.0, pairs)
}

/// Updates of rank 3 are passes of their own, those of rank 4 part of the products of the base: the same loss and the
/// same gradients, on the embedding and the tied head too, with dropout, and with layers that are computed twice.
#[test]
fn updates_in_the_same_pass_are_those_in_passes_of_their_own() {
    let base = Base::open(convert_asset("loam-micro", "q4_0")).expect("base");
    let targets = "attn_q,attn_v,attn_output,ffn_gate,ffn_down,token_embd,output";
    let new = NewAdapter { targets: Some(targets.parse().expect("targets")), ..options(3).adapter };
    let start = adapter(&base, back_ends().remove(0).1, TrainOptions { adapter: new, ..options(3) });
    let batch = full_batch(&some_rows(2, 9, 4096));
    for (dropout, checkpointing) in
        [(0.0, Checkpointing::None), (0.0, Checkpointing::Layers), (0.3, Checkpointing::None)]
    {
        let checkpointing = Some(checkpointing);
        let run = |backend, start: AdapterFile, rank, kernels: usize| {
            let options = TrainOptions { dropout, checkpointing, loss_chunk: Some(5), ..options(rank) };
            let (mut engine, mut trainer) = new_trainer(&base, backend, Some(start), options).expect("trainer");
            let used = |name: &str| trainer.plan(&engine).nodes.iter().any(|n| n.call.kernel.name().starts_with(name));
            let found = ["matmul_tile_lora", "matmul_transposed_lora"].into_iter().filter(|name| used(name)).count();
            assert_eq!(found, kernels, "rank {rank}, dropout {dropout}");
            let loss =
                pollster::block_on(trainer.accumulate(&mut engine, std::slice::from_ref(&batch))).expect("step").loss;
            (loss, pollster::block_on(trainer.gradients(&mut engine)).expect("gradients"))
        };
        for ((device, own), (_, same)) in back_ends().into_iter().zip(back_ends()) {
            let (own_loss, own) = run(own, start.clone(), 3, 0);
            let (same_loss, same) = run(same, widened(&start), 4, if dropout > 0.0 { 1 } else { 2 });
            assert!((own_loss - same_loss).abs() <= 1e-6 * own_loss, "{device}: {own_loss} and {same_loss}");
            for (name, error) in parameter_errors(&same, &widened(&own)) {
                assert!(error <= 1e-5, "{name} on {device}, dropout {dropout}, {checkpointing:?}: {error:.1e}");
            }
        }
    }
}
