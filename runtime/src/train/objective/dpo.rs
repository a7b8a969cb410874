//! Direct preference optimisation: a chosen answer shall become more probable than a rejected one, compared with the
//! model without adapter.
//!
//! Rafailov et al. 2023 (arXiv 2305.18290), equation 7, with the label smoothing of conservative DPO (Mitchell 2023).
//! With the rewards `r = beta (ln p - ln p_reference)` of whole answers and their margin `m = r_chosen - r_rejected`,
//! the loss of a record is `-(1 - e) ln sigmoid(m) - e ln sigmoid(-m)`. TRL's `DPOConfig(loss_type=["sigmoid"])`
//! without a reference model.

use super::{Objective, ObjectiveOptions, Scores, Unit};
use crate::data::Records;

/// Direct preference optimisation.
pub static DPO: Objective = Objective {
    name: "dpo",
    summary: "Direct preference optimisation: chosen answers against rejected ones",
    records: Records::Preferences,
    unit: Unit::Record,
    reference: true,
    options: &["beta", "label_smoothing"],
    metrics: &[
        "rewards/chosen",
        "rewards/rejected",
        "rewards/accuracies",
        "rewards/margins",
        "logps/chosen",
        "logps/rejected",
    ],
    weights: Some(weights),
    sums,
    held_out: sums,
};

/// Log-probabilities and rewards of a record's answers.
struct Pair {
    chosen: f64,
    rejected: f64,
    chosen_reward: f64,
    rejected_reward: f64,
}

impl Pair {
    fn margin(&self) -> f64 {
        self.chosen_reward - self.rejected_reward
    }
}

fn pairs<'a>(scores: &'a Scores<'_>, options: &ObjectiveOptions) -> impl Iterator<Item = Pair> + 'a {
    let beta = f64::from(options.beta());
    (0..scores.sequences.len()).step_by(2).map(move |at| {
        let (chosen, rejected) = (scores.sequence(at), scores.sequence(at + 1));
        Pair {
            chosen,
            rejected,
            chosen_reward: beta * (chosen - scores.reference[at]),
            rejected_reward: beta * (rejected - scores.reference[at + 1]),
        }
    })
}

/// By the chain rule: a chosen label has `beta ((1 - e) sigmoid(-m) - e sigmoid(m))`, a rejected one minus that.
fn weights(scores: &Scores<'_>, options: &ObjectiveOptions) -> Vec<f32> {
    let (beta, smoothing) = (f64::from(options.beta()), f64::from(options.label_smoothing()));
    let mut weights = vec![0.0; scores.log_probabilities.len()];
    for (pair, sequences) in pairs(scores, options).zip(scores.sequences.chunks_exact(2)) {
        let margin = pair.margin();
        let weight = beta * ((1.0 - smoothing) * sigmoid(-margin) - smoothing * sigmoid(margin)) * scores.share;
        weights[sequences[0].clone()].fill(weight as f32);
        weights[sequences[1].clone()].fill(-weight as f32);
    }
    weights
}

fn sums(scores: &Scores<'_>, options: &ObjectiveOptions) -> Vec<f64> {
    let smoothing = f64::from(options.label_smoothing());
    let mut sums = vec![0.0; 1 + DPO.metrics.len()];
    for pair in pairs(scores, options) {
        let margin = pair.margin();
        let values = [
            -(1.0 - smoothing) * log_sigmoid(margin) - smoothing * log_sigmoid(-margin),
            pair.chosen_reward,
            pair.rejected_reward,
            f64::from(u8::from(pair.chosen_reward > pair.rejected_reward)),
            margin,
            pair.chosen,
            pair.rejected,
        ];
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    sums
}

fn sigmoid(x: f64) -> f64 {
    log_sigmoid(x).exp()
}

/// `ln(1 / (1 + exp(-x)))`, also where `exp(-x)` is no number that f64 has.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores<'a>(log_probabilities: &'a [f32], reference: &'a [f64]) -> Scores<'a> {
        Scores { log_probabilities, sequences: &[0..2, 2..3], reference, share: 0.5 }
    }

    fn options(label_smoothing: f32) -> ObjectiveOptions {
        ObjectiveOptions { objective: &DPO, beta: Some(0.5), label_smoothing: Some(label_smoothing) }
    }

    #[test]
    fn without_a_difference_the_loss_is_ln_2_and_both_answers_weigh_the_same() {
        let scores = scores(&[-1.0, -2.0, -5.0], &[-3.0, -5.0]);
        let sums = sums(&scores, &options(0.0));
        assert!((sums[0] - std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!(sums[1..], [0.0, 0.0, 0.0, 0.0, -3.0, -5.0]);
        assert_eq!(weights(&scores, &options(0.0)), [0.125, 0.125, -0.125]);
    }

    /// Rewards 1 and -1, a margin of 2.
    #[test]
    fn by_hand() {
        let scores = scores(&[-1.0, -2.0, -7.0], &[-5.0, -5.0]);
        let sums = sums(&scores, &options(0.25));
        let softplus = |x: f64| (1.0 + x.exp()).ln();
        assert!((sums[0] - (0.75 * softplus(-2.0) + 0.25 * softplus(2.0))).abs() < 1e-12);
        assert_eq!(sums[1..5], [1.0, -1.0, 1.0, 2.0]);
        let (high, low) = (1.0 / (1.0 + (-2.0f64).exp()), 1.0 / (1.0 + 2.0f64.exp()));
        let weight = (0.5 * (0.75 * low - 0.25 * high) * 0.5) as f32;
        assert_eq!(weights(&scores, &options(0.25)), [weight, weight, -weight]);
    }

    #[test]
    fn large_margins_have_finite_losses() {
        assert_eq!(log_sigmoid(-1e4), -1e4);
        assert_eq!((log_sigmoid(1e4), sigmoid(-1e4)), (0.0, 0.0));
    }
}
