//! Dynamic fine-tuning: supervised fine-tuning in which each token counts as much as it is probable already.
//!
//! "On the Generalization of SFT" (Wu et al. 2025, arXiv 2508.05629), equation 9: the loss of a token is `-sg(p) ln p`,
//! where `sg` stops the gradient, so that its weight is `p`. TRL's `SFTConfig(loss_type="dft")`.
//!
//! That loss is small for tokens that are improbable, too: held-out data is measured by the likelihood, as with sft.

use super::sft::{SFT, negative_log_likelihood};
use super::{Objective, ObjectiveOptions, Scores};

/// Dynamic fine-tuning.
pub static DFT: Objective = Objective {
    name: "dft",
    summary: "Dynamic fine-tuning: as sft, each token weighted by its own probability",
    weights: Some(weights),
    sums,
    held_out: negative_log_likelihood,
    ..SFT
};

fn weights(scores: &Scores<'_>, _: &ObjectiveOptions) -> Vec<f32> {
    scores.log_probabilities.iter().map(|&value| (f64::from(value).exp() * scores.share) as f32).collect()
}

fn sums(scores: &Scores<'_>, _: &ObjectiveOptions) -> Vec<f64> {
    let loss = |&value: &f32| -f64::from(value).exp() * f64::from(value);
    vec![scores.log_probabilities.iter().map(loss).sum()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_by_its_probability() {
        let scores = Scores {
            log_probabilities: &[0.5f32.ln(), 0.0],
            sequences: std::slice::from_ref(&(0..2)),
            reference: &[],
            share: 0.5,
        };
        let options = ObjectiveOptions { objective: &DFT, ..ObjectiveOptions::default() };
        assert_eq!(weights(&scores, &options), [0.25, 0.5]);
        assert!((sums(&scores, &options)[0] - 0.5 * std::f64::consts::LN_2).abs() < 1e-7);
        assert!((negative_log_likelihood(&scores, &options)[0] - std::f64::consts::LN_2).abs() < 1e-7);
    }
}
