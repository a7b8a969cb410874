//! Supervised fine-tuning: the mean negative log-likelihood of the answers' tokens.

use super::{Objective, ObjectiveOptions, Scores, Unit, sum};
use crate::data::Records;

/// Supervised fine-tuning.
pub static SFT: Objective = Objective {
    name: "sft",
    summary: "Supervised fine-tuning: loss on assistant turns and completions",
    records: Records::Answers,
    unit: Unit::Label,
    reference: false,
    options: &[],
    metrics: &[],
    weights: None,
    sums: negative_log_likelihood,
    held_out: negative_log_likelihood,
};

pub(super) fn negative_log_likelihood(scores: &Scores<'_>, _: &ObjectiveOptions) -> Vec<f64> {
    vec![-sum(scores.log_probabilities)]
}
