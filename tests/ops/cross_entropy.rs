//! The kernel of `cross_entropy` against its reference, and the gradient against finite differences.

use loam_shaders::Step;
use loam_shaders::cross_entropy::{self, Params};
use loam_shaders::step::NONE;
use loam_tests::{Operand, Random, check_gradient, check_kernel_at};

fn labels(rows: u32, vocab: u32, random: &mut Random) -> Vec<u32> {
    (0..rows).map(|i| if i % 3 == 1 { NONE } else { random.below(vocab) }).collect()
}

/// Moves labels to the smallest logit: where softmax rounds to 1 at the label, f32 has no digits left to compare.
fn avoid_certainty(labels: &mut [u32], logits: &[f32]) {
    let vocab = logits.len() / labels.len();
    for (label, row) in labels.iter_mut().zip(logits.chunks(vocab)).filter(|(label, _)| **label != NONE) {
        *label = (0..vocab).min_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or_default() as u32;
    }
}

/// Weights of both signs, one per row.
fn weights(rows: u32) -> Vec<f32> {
    (0..rows).map(|i| if i % 2 == 0 { 0.125 } else { -0.75 * i as f32 }).collect()
}

/// Runs a chunk at offset 2 and returns (logits or their gradient, log-probabilities of the chunk).
fn run(p: Params, labels: &[u32], logits: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (first, last) = (p.offset as usize, (p.offset + p.rows) as usize);
    let all_labels = [vec![NONE; first], labels.to_vec()].concat();
    let all_weights = [vec![f32::NAN; first], weights(p.rows)].concat();
    let values = Operand::unset(last + 1);
    let operands = [Operand::u32(&all_labels), Operand::f32(&all_weights), Operand::f32(logits), values];
    let mut written = check_kernel_at(&Step::default(), &cross_entropy::forward(p), &operands);
    let values = written.remove(1);
    assert!(values[..first].iter().chain(&values[last..]).all(|value| value.is_nan()), "wrote to another chunk");
    (written.remove(0), values[first..last].to_vec())
}

#[test]
fn log_probabilities_and_gradients() {
    let mut random = Random::new(160);
    for vocab in [1, 7, 259, 4096] {
        for rows in [1, 3, 17] {
            for (gradient, factor, shift, softcap) in [
                (0, 1.0, 0.0, 0.0),
                (1, 1.0, 0.0, 0.0),
                (1, 30.0, 0.0, 0.0),
                (1, 10.0, 500.0, 0.0),
                (0, 10.0, 0.0, 8.0),
                (1, 10.0, 0.0, 8.0),
            ] {
                let p = Params { rows, vocab, offset: 2, gradient, softcap, ..Params::default() };
                let mut labels = labels(rows, vocab, &mut random);
                let logits = random.values((rows * vocab) as usize);
                let logits: Vec<f32> = logits.iter().map(|v| v * factor + shift).collect();
                if factor > 1.0 {
                    avoid_certainty(&mut labels, &logits);
                }
                let (after, values) = run(p, &labels, &logits);
                if gradient == 0 {
                    assert_eq!(after, logits, "logits changed");
                }
                for (i, label) in labels.iter().enumerate().filter(|(_, label)| **label == NONE) {
                    let row = &after[i * vocab as usize..(i + 1) * vocab as usize];
                    assert_eq!(values[i], 0.0, "label {label}");
                    assert!(gradient == 0 || row.iter().all(|v| *v == 0.0), "gradient of a row without label");
                }
            }
        }
    }
}

/// Two equal logits: the log-probability is -ln 2 and the gradient is half of the weight either way.
#[test]
fn by_hand() {
    let p = Params { rows: 1, vocab: 2, offset: 0, gradient: 1, ..Params::default() };
    let (gradient, values) = run(p, &[1], &[3.0, 3.0]);
    assert!((values[0] + std::f32::consts::LN_2).abs() < 1e-6);
    assert!((gradient[0] - 0.0625).abs() < 1e-7 && (gradient[1] + 0.0625).abs() < 1e-7, "{gradient:?}");
}

/// What is no number, and infinity, make the log-probability no number, and the gradient of the row.
#[test]
fn what_is_no_number_reaches_the_loss() {
    for softcap in [0.0, 8.0] {
        let p = Params { rows: 2, vocab: 300, offset: 0, gradient: 1, softcap, ..Params::default() };
        let mut logits = Random::new(162).values(600);
        logits[299] = f32::NAN;
        let (gradient, values) = run(p, &[3, 3], &logits);
        assert!(values[0].is_nan() && values[1].is_finite(), "{values:?}");
        assert!(gradient[..300].iter().all(|x| x.is_nan()) && gradient[300..].iter().all(|x| x.is_finite()));
    }
}

/// `sum of weight * -ln softmax(capped logits)[label]`, in f64 and without tricks.
fn formula(p: Params, labels: &[u32], logits: &[f32]) -> f64 {
    let cap = |v: f32| match f64::from(p.softcap) {
        0.0 => f64::from(v),
        cap => cap * (f64::from(v) / cap).tanh(),
    };
    let loss = |(row, label): (&[f32], &u32)| {
        let sum: f64 = row.iter().map(|v| cap(*v).exp()).sum();
        if *label == NONE { 0.0 } else { -(cap(row[*label as usize]).exp() / sum).ln() }
    };
    let losses = logits.chunks(p.vocab as usize).zip(labels).map(loss);
    losses.zip(weights(p.rows)).map(|(loss, weight)| loss * f64::from(weight)).sum()
}

#[test]
fn gradient() {
    let mut random = Random::new(161);
    for softcap in [0.0, 2.5] {
        let p = Params { rows: 4, vocab: 13, offset: 1, gradient: 1, softcap, ..Params::default() };
        let labels = labels(4, 13, &mut random);
        let logits: Vec<f32> = random.values(52).iter().map(|v| v * 3.0).collect();
        let (gradient, values) = run(p, &labels, &logits);
        let sum: f64 =
            values.iter().zip(weights(4)).map(|(value, weight)| -f64::from(*value) * f64::from(weight)).sum();
        assert!((sum - formula(p, &labels, &logits)).abs() < 1e-6, "{sum}");
        check_gradient("logits", &logits, &gradient, (1e-3, 1e-5), |logits| formula(p, &labels, logits));
    }
}
