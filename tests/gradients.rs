//! Every adapter gradient of a whole model against finite differences of its loss, on both back ends: needs nothing
//! but the committed model.

use std::path::Path;

use loam::adapter::{Attach, Pair};
use loam::backend::Backend;
use loam::evaluate::Evaluator;
use loam::{AdapterFile, Base, LoraOptions, TrainOptions, Trainer, random};
use loam_tests::{back_ends, convert_asset, full_batch, some_rows};

/// Length of the step along a gradient, relative to the parameters: truncation and f32 rounding of the loss balance.
const STEP: f64 = 2e-2;
/// Relative error of a directional derivative.
const BOUND: f64 = 2e-2;

fn options() -> TrainOptions {
    let lora = LoraOptions { rank: 3, alpha: 6.0, ..LoraOptions::default() };
    TrainOptions { lora, batch: 2, context: 9, clip: 0.0, ..TrainOptions::default() }
}

/// An adapter with A and B different from zero, so that every gradient is.
fn adapter(base: &Base, backend: Box<dyn Backend>) -> AdapterFile {
    let mut trainer = Trainer::new(base, backend, None, options()).expect("trainer");
    let mut adapter = pollster::block_on(trainer.adapter()).expect("adapter");
    for (stream, (_, pair)) in adapter.tensors.iter_mut().enumerate() {
        let value = |i: usize| ((random::uniform(11, stream as u32, i as u64) - 0.5) * 0.2) as f32;
        pair.b.iter_mut().enumerate().for_each(|(i, b)| *b = value(i));
    }
    adapter
}

fn loss(base: &Base, backend: Box<dyn Backend>, adapter: &AdapterFile, batch: &loam::data::Batch) -> f64 {
    let attach = [Attach { adapter, path: Path::new("test"), scale: 1.0 }];
    let mut evaluator = Evaluator::new(base, backend, &attach, 2, 9).expect("evaluator");
    pollster::block_on(evaluator.loss(std::slice::from_ref(batch))).expect("loss").0
}

fn side(pair: &mut Pair, b: bool) -> &mut Vec<f32> {
    if b { &mut pair.b } else { &mut pair.a }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

/// The loss differences are always taken on the CPU: the gradient of each back end has to agree with them.
#[test]
fn adapter_gradients_match_finite_differences() {
    for format in ["f32", "q4_0", "q8_0"] {
        let base = Base::open(convert_asset("loam-micro", format)).expect("base");
        let cpu = || back_ends().remove(0).1;
        let start = adapter(&base, cpu());
        let batch = full_batch(&some_rows(2, 9, 4096));
        for (device, backend) in back_ends() {
            let mut trainer = Trainer::new(&base, backend, Some(start.clone()), options()).expect("trainer");
            pollster::block_on(trainer.accumulate(std::slice::from_ref(&batch))).expect("step");
            let mut gradients = pollster::block_on(trainer.gradients()).expect("gradients");
            for site in 0..start.tensors.len() {
                for b in [false, true] {
                    let name = format!("{format} {} {} on {device}", start.tensors[site].0, if b { "B" } else { "A" });
                    let gradient = side(&mut gradients.tensors[site].1, b).clone();
                    let slope = norm(&gradient);
                    assert!(slope > 0.0, "{name}: zero gradient");
                    let moved = |sign: f64| {
                        let mut moved = start.clone();
                        let values = side(&mut moved.tensors[site].1, b);
                        let length = STEP * norm(values);
                        for (value, g) in values.iter_mut().zip(&gradient) {
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
}
