//! What surrounds a training step: packing, dropout and noise, optimizers, and the loop that keeps the best adapter.
//! Needs nothing but the committed model.

use std::num::NonZeroU64;
use std::ops::ControlFlow;

use loam::adapter::lora;
use loam::data::{Batch, Dataset, Example, Notes, Records};
use loam::generate::GenerateOptions;
use loam::generate::sampler::SamplerOptions;
use loam::ops::{adamw::AdamW, lion::Lion, sgd::Sgd};
use loam::train::{self, Event, Job, Keep, Optimizer, Outcome, RunOptions};
use loam::{AdapterFile, Base, Engine, Error, NewAdapter, TrainOptions, Trainer};
use loam_tests::{back_ends, convert_asset, fill_b, flat, full_batch, new_session, new_trainer, relative, some_rows};
use pollster::block_on;

fn base() -> Base {
    Base::open(convert_asset("loam-micro", "q4_0")).expect("base")
}

fn options(batch: usize, context: usize) -> TrainOptions {
    let adapter = NewAdapter { rank: 4, alpha: 8.0, seed: 3, ..NewAdapter::default() };
    TrainOptions { adapter, batch, context, clip: 0.0, ..TrainOptions::default() }
}

fn trainer(base: &Base, adapter: Option<&AdapterFile>, options: TrainOptions) -> (Engine, Trainer) {
    new_trainer(base, back_ends().remove(0).1, adapter.cloned(), options).expect("trainer")
}

/// An adapter whose A and B are both different from zero.
fn started(base: &Base) -> AdapterFile {
    let (mut engine, trainer) = trainer(base, None, options(1, 8));
    let mut adapter = block_on(trainer.adapter(&mut engine)).expect("adapter");
    fill_b(&mut adapter, 11, 0.2);
    adapter
}

fn gradients(base: &Base, adapter: &AdapterFile, options: TrainOptions, batch: &Batch) -> (f64, Vec<f32>) {
    let (mut engine, mut trainer) = trainer(base, Some(adapter), options);
    let loss = block_on(trainer.accumulate(&mut engine, std::slice::from_ref(batch))).expect("step").loss;
    (loss, flat(&block_on(trainer.gradients(&mut engine)).expect("gradients")))
}

fn example(stream: usize, length: usize, trained_from: usize) -> Example {
    let tokens = some_rows(stream + 1, length, 4096).remove(stream);
    Example { trained: (0..length).map(|t| t >= trained_from).collect(), tokens, line: stream + 1, cut: 0 }
}

#[test]
fn packed_examples_have_the_gradients_of_rows_of_their_own() {
    let base = base();
    let adapter = started(&base);
    let examples = [example(0, 6, 2), example(1, 9, 1), example(2, 5, 3), example(3, 4, 1)];
    let all: Vec<&Example> = examples.iter().collect();
    let alone: Vec<Vec<&Example>> = all.iter().map(|example| vec![*example]).collect();
    let packed = Batch::new(&[all[..3].to_vec(), all[3..].to_vec()], 2, 20).expect("packed");
    let alone = Batch::new(&alone, 4, 20).expect("alone");
    assert_eq!(packed.positions[6..15], [0, 1, 2, 3, 4, 5, 6, 7, 8], "positions begin again");
    let (packed_loss, packed) = gradients(&base, &adapter, options(2, 20), &packed);
    let (alone_loss, alone) = gradients(&base, &adapter, options(4, 20), &alone);
    assert!((packed_loss - alone_loss).abs() <= 1e-5 * alone_loss, "{packed_loss} packed, {alone_loss} alone");
    let error = relative(&packed, &alone);
    assert!(error <= 1e-5, "gradients are {error:.1e} apart");
}

/// Along the gradient the loss changes as the gradient says, with the same masks and noise every time: they are those
/// of the step's number. Dropped inputs and the path back to the layers before them are both in it.
#[test]
fn gradients_with_dropout_and_noise_match_finite_differences() {
    let base = base();
    let start = started(&base);
    let batch = full_batch(&some_rows(2, 9, 4096));
    let noisy = TrainOptions { dropout: 0.3, neftune_noise_alpha: 5.0, ..options(2, 9) };
    for (device, backend) in back_ends() {
        let (mut engine, mut trainer) =
            new_trainer(&base, backend, Some(start.clone()), noisy.clone()).expect("trainer");
        block_on(trainer.accumulate(&mut engine, std::slice::from_ref(&batch))).expect("step");
        let gradient = block_on(trainer.gradients(&mut engine)).expect("gradients");
        for part in [lora::A, lora::B] {
            let squares = |adapter: &AdapterFile| -> f64 {
                let half = adapter.parameters.iter().filter(|parameter| parameter.part == part);
                half.flat_map(|parameter| &parameter.values).map(|v| f64::from(*v).powi(2)).sum()
            };
            let (slope, length) = (squares(&gradient).sqrt(), 1e-3 * squares(&start).sqrt());
            let moved = |sign: f64| {
                let mut moved = start.clone();
                let both = moved.parameters.iter_mut().zip(&gradient.parameters);
                for (parameter, gradient) in both.filter(|(parameter, _)| parameter.part == part) {
                    for (value, g) in parameter.values.iter_mut().zip(&gradient.values) {
                        *value += (sign * length / slope * f64::from(*g)) as f32;
                    }
                }
                gradients(&base, &moved, noisy.clone(), &batch).0
            };
            let found = (moved(1.0) - moved(-1.0)) / (2.0 * length);
            let error = (found - slope).abs() / slope;
            assert!(error <= 2e-2, "{device}: gradient {slope:.5e}, differences give {found:.5e}");
        }
    }
}

#[test]
fn dropout_and_noise_are_for_training_only_and_change_from_step_to_step() {
    let base = base();
    let adapter = started(&base);
    let batch = full_batch(&some_rows(2, 9, 4096));
    let plain = options(2, 9);
    let losses = |options: &TrainOptions| {
        let (mut engine, mut trainer) = trainer(&base, Some(&adapter), options.clone());
        let held_out = block_on(trainer.evaluate(&mut engine, std::slice::from_ref(&batch))).expect("loss").loss;
        let mut step = || block_on(trainer.step(&mut engine, std::slice::from_ref(&batch), 1e-20)).expect("step");
        (held_out, step().metrics.loss, step().metrics.loss)
    };
    let (held_out, first, second) = losses(&plain);
    assert!((first - held_out).abs() < 1e-6 && (second - held_out).abs() < 1e-6);
    for noisy in
        [TrainOptions { dropout: 0.3, ..plain.clone() }, TrainOptions { neftune_noise_alpha: 5.0, ..plain.clone() }]
    {
        let (same, first, second) = losses(&noisy);
        assert_eq!(same, held_out, "an evaluation sees neither");
        assert!((first - held_out).abs() > 1e-5 && (first - second).abs() > 1e-5, "{held_out} {first} {second}");
        assert_ne!(losses(&TrainOptions { seed: 9, ..noisy.clone() }).1, first, "another seed");
        assert_eq!(losses(&noisy).1, first, "the same seed");
    }
}

/// Losses of ten steps on one batch.
fn curve(base: &Base, optimizer: Optimizer, lr: f32) -> Vec<f64> {
    let batch = [full_batch(&some_rows(2, 12, 4096))];
    let (mut engine, mut trainer) = trainer(base, None, TrainOptions { optimizer, clip: 1.0, ..options(2, 12) });
    (0..10).map(|_| block_on(trainer.step(&mut engine, &batch, lr)).expect("step").metrics.loss).collect()
}

#[test]
fn every_optimizer_learns_and_eight_bits_are_nearly_as_good_as_32() {
    let base = base();
    let adamw = AdamW::default();
    let full = curve(&base, Optimizer::AdamW(adamw), 5e-3);
    let eight = curve(&base, Optimizer::AdamW8Bit(adamw), 5e-3);
    assert!(full != eight);
    for (full, eight) in full.iter().zip(&eight) {
        assert!((full - eight).abs() <= 0.02 * full, "{full} with 32 bits, {eight} with 8");
    }
    let others = [
        (Optimizer::Lion(Lion::default()), 1e-3),
        (Optimizer::Sgd(Sgd::default()), 0.5),
        (Optimizer::Sgd(Sgd { momentum: 0.9, weight_decay: 0.0 }), 0.1),
    ];
    for (name, losses) in others.map(|(o, lr)| (o.name(), curve(&base, o, lr))).into_iter().chain([("adamw", full)]) {
        assert!(losses[9] < 0.95 * losses[0], "{name}: {losses:?}");
    }
}

/// AdamW's first step is the learning rate wherever there is a gradient.
#[test]
fn loraplus_moves_b_faster_than_a() {
    let base = base();
    let start = started(&base);
    let (mut engine, mut trainer) =
        trainer(&base, Some(&start), TrainOptions { loraplus_lr_ratio: 16.0, ..options(2, 9) });
    block_on(trainer.step(&mut engine, &[full_batch(&some_rows(2, 9, 4096))], 1e-3)).expect("step");
    let end = block_on(trainer.adapter(&mut engine)).expect("adapter");
    for (from, to) in start.parameters.iter().zip(&end.parameters) {
        let expected = if from.part == lora::B { 1.6e-2 } else { 1e-3 };
        let both = from.values.iter().zip(&to.values);
        let most = both.map(|(from, to)| f64::from((from - to).abs())).fold(0.0, f64::max);
        assert!((most - expected).abs() <= 0.01 * expected, "{}: {most}, expected {expected}", from.name());
    }
}

/// Step, loss, and whether it was the best so far.
type Evaluations = Vec<(u64, f64, bool)>;

/// A run over examples in their order, one a step, with `held_out` measured after each.
fn run(
    base: &Base,
    data: &[&Example],
    held_out: &Example,
    change: impl FnOnce(TrainOptions) -> TrainOptions,
) -> (Result<(AdapterFile, Outcome), Error>, Evaluations) {
    let set = |examples: Vec<Example>| Dataset {
        records: Records::Answers,
        examples,
        notes: Notes::default(),
        digest: "test".into(),
    };
    let data = set(data.iter().map(|&example| example.clone()).collect());
    let held_out = set(vec![held_out.clone()]);
    let options = TrainOptions {
        steps: Some(data.examples.len() as u64),
        schedule: loam::train::Schedule::Constant,
        lr: 1e-2,
        shuffle: false,
        pack: false,
        eval_every: NonZeroU64::new(1),
        ..options(1, 12)
    };
    let mut evaluations = Vec::new();
    let mut on_event = |event: &Event| {
        if let Event::Evaluated { step, metrics, best } = event {
            evaluations.push((*step, metrics.loss, *best));
        }
    };
    let backend = back_ends().remove(0).1;
    let job = Job { held_out: Some(&held_out), ..Job::new(base, &data, change(options)) };
    let mut engine = Engine::new(base, backend).expect("engine");
    let work = train::run(&job, &mut engine, RunOptions::default(), &mut on_event);
    (block_on(work), evaluations)
}

#[test]
fn the_best_adapter_is_kept_and_patience_ends_a_run() {
    let base = base();
    // The same first token of each pair, followed by another one.
    let pairs = |second: u32| Example { tokens: [700, second].repeat(6), trained: vec![true; 12], line: 1, cut: 0 };
    let (good, bad) = (pairs(901), pairs(1203));
    let steps = [&good, &good, &good, &good, &good, &bad, &bad, &bad, &bad, &bad];
    let (all, evaluations) = run(&base, &steps, &good, |options| options);
    let (adapter, outcome) = all.expect("run");
    assert_eq!(evaluations.len(), 11, "before the first step and after each");
    let best = evaluations[1..].iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("some");
    assert!(best.0 < 8 && best.1 < evaluations[10].1, "learning something else makes it worse: {evaluations:?}");
    assert_eq!((outcome.best_step, outcome.adapter_step, outcome.steps), (Some(best.0), best.0, 10));
    assert_eq!((outcome.eval_loss_before, outcome.eval_loss_after), (Some(evaluations[0].1), Some(best.1)));
    assert!(!outcome.stopped_early);
    let field = |name: &str| adapter.metadata.iter().find(|(key, _)| key == name).expect("a key").1.clone();
    assert_eq!(field("loam.adapter_step"), loam::gguf::Value::U64(best.0));

    // A run of as many steps ends with the same bits.
    let (short, _) = run(&base, &steps[..best.0 as usize], &good, |options| options);
    assert_eq!(flat(&short.expect("run").0), flat(&adapter));

    let (stopped, seen) = run(&base, &steps, &good, |options| TrainOptions { patience: NonZeroU64::new(2), ..options });
    let (early, outcome) = stopped.expect("run");
    assert!(outcome.stopped_early && outcome.steps == best.0 + 2 && seen.len() as u64 == best.0 + 3, "{outcome:?}");
    assert_eq!(flat(&early), flat(&adapter));

    let (last, _) = run(&base, &steps, &good, |options| TrainOptions { keep: Keep::Last, force: true, ..options });
    let (last, outcome) = last.expect("run");
    assert_eq!((outcome.best_step, outcome.adapter_step), (Some(best.0), 10));
    assert_eq!(outcome.eval_loss_after, Some(evaluations[10].1));
    assert_ne!(flat(&last), flat(&adapter));
}

#[test]
fn runs_that_end_worse_than_they_began_return_nothing_unless_forced() {
    let base = base();
    // What the base says itself is what it knows best.
    let (mut engine, mut session) = new_session(&base, back_ends().remove(0).1, 16, &[]).expect("session");
    let greedy = GenerateOptions { max_tokens: 11, sampler: SamplerOptions::greedy() };
    let go_on = &mut |_| ControlFlow::Continue(());
    let said = block_on(session.generate(&mut engine, &[700], &greedy, &|_| false, go_on)).expect("text");
    let other = Example { tokens: [vec![700], said].concat(), trained: vec![true; 12], line: 1, cut: 0 };
    let bad = example(1, 12, 1);
    let steps = [&bad; 6];
    let fast = |options| TrainOptions { lr: 0.3, clip: 1.0, ..options };
    let (refused, evaluations) = run(&base, &steps, &other, fast);
    assert!(
        evaluations.iter().skip(1).all(|(_, loss, _)| loss.is_nan() || *loss > evaluations[0].1),
        "{evaluations:?}"
    );
    assert!(matches!(refused, Err(Error::Worse { .. } | Error::Diverged(_))), "{refused:?}");
    let (forced, _) = run(&base, &steps, &other, |options| TrainOptions { force: true, ..fast(options) });
    let outcome = forced.expect("forced").1;
    assert!(outcome.eval_loss_after > outcome.eval_loss_before, "{outcome:?}");
    let (usage, _) = run(&base, &steps, &other, |options| TrainOptions {
        patience: NonZeroU64::new(1),
        eval_every: None,
        ..options
    });
    assert!(matches!(usage, Err(Error::Option(_))));
}

/// As where the adapter's values have made all logits alike. With zeros for A and B neither has a gradient.
#[test]
fn a_gradient_that_is_zero_everywhere_is_told_once() {
    let base = base();
    let mut zeros = started(&base);
    zeros.parameters.iter_mut().for_each(|parameter| parameter.values.fill(0.0));
    let data = Dataset {
        records: Records::Answers,
        examples: vec![example(0, 12, 1)],
        notes: Notes::default(),
        digest: "test".into(),
    };
    let mut told = Vec::new();
    let mut on_event = |event: &Event| {
        if let Event::Note { message } = event {
            told.push(message.clone());
        }
    };
    let options = TrainOptions { steps: Some(3), ..options(1, 12) };
    let job = Job { start: Some(zeros), ..Job::new(&base, &data, options) };
    let mut engine = Engine::new(&base, back_ends().remove(0).1).expect("engine");
    let work = train::run(&job, &mut engine, RunOptions::default(), &mut on_event);
    block_on(work).expect("no worse than before");
    assert!(told.len() == 1 && told[0].contains("the gradient of step 1 is 0 everywhere"), "{told:?}");
}

/// Short micro-batches run on shorter plans, with the gradients that they have on the long one.
#[test]
fn grouped_batches_are_as_long_as_they_need_to_be_and_change_nothing() {
    let base = base();
    let adapter = started(&base);
    let examples = [example(0, 6, 2), example(1, 8, 1)];
    let rows: Vec<Vec<&Example>> = examples.iter().map(|example| vec![example]).collect();
    let grouped = TrainOptions { group_by_length: true, pack: false, ..options(2, 32) };
    assert_eq!(grouped.batches().contexts(), [32, 16, 8]);
    let batch = |context| Batch::new(&rows, 2, context).expect("batch");
    let (expected_loss, expected) = gradients(&base, &adapter, options(2, 32), &batch(32));
    for context in [32, 16, 8] {
        let (loss, found) = gradients(&base, &adapter, grouped.clone(), &batch(context));
        let error = relative(&found, &expected);
        assert!((loss - expected_loss).abs() <= 1e-5 * loss && error <= 1e-5, "{context}: {loss} {error:.1e}");
    }
    let (mut engine, mut trainer) = trainer(&base, Some(&adapter), grouped);
    assert!(
        matches!(block_on(trainer.accumulate(&mut engine, &[batch(9)])), Err(Error::Argument(_))),
        "a length without a plan"
    );
}
