//! What a run learns from the log-probabilities of its labels: one file per objective, and one line in [`ALL`].
//!
//! An objective is data and functions: which records it needs, what weight each label has in the gradient, and which
//! numbers it reports. Batches, plans, checkpoints and logs are the same for all of them.

mod clm;
mod dft;
mod dpo;
mod metrics;
mod options;
mod references;
mod sft;

use std::fmt;
use std::ops::Range;

pub use clm::CLM;
pub use dft::DFT;
pub use dpo::DPO;
pub use metrics::{Metric, Metrics};
pub use options::ObjectiveOptions;
pub use references::{KnownReferences, References};
pub use sft::SFT;

use crate::data::{Batch, Records};

/// All objectives, in the order in which they are listed.
pub static ALL: &[&Objective] = &[&SFT, &CLM, &DFT, &DPO];

/// What is learned.
pub struct Objective {
    /// Its name in options and files.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// The records that it learns from.
    pub records: Records,
    /// What its loss and its metrics are means over.
    pub unit: Unit,
    /// Whether it compares with the model without adapter.
    pub reference: bool,
    /// The fields of [`ObjectiveOptions`] that it looks at.
    pub options: &'static [&'static str],
    /// Names of what it reports besides the loss; by TRL's names where TRL has them.
    pub metrics: &'static [&'static str],
    /// The weight of each label of a micro-batch: minus the derivative of the step's loss by its log-probability.
    /// `None`: the same for all labels of the step, one over their number, which is known before the forward pass.
    pub weights: Option<fn(&Scores<'_>, &ObjectiveOptions) -> Vec<f32>>,
    /// The loss and the metrics of a micro-batch, summed over its units.
    pub sums: fn(&Scores<'_>, &ObjectiveOptions) -> Vec<f64>,
    /// The same of held-out data, by which adapters are compared.
    pub held_out: fn(&Scores<'_>, &ObjectiveOptions) -> Vec<f64>,
}

/// What a mean is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Labels: trained tokens.
    Label,
    /// Records of the data.
    Record,
}

/// What is known of the labels of a micro-batch.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// The log-probability of each label, in nats.
    pub log_probabilities: &'a [f32],
    /// The labels of each sequence. The sequences of a record are neighbours, in the order of [`Records`].
    pub sequences: &'a [Range<usize>],
    /// For objectives with a reference, the log-probability of each sequence without adapter: summed over its labels.
    pub reference: &'a [f64],
    /// One over the units of the whole step.
    pub share: f64,
}

impl Scores<'_> {
    /// The log-probability of sequence `index`: summed over its labels, in their order.
    pub fn sequence(&self, index: usize) -> f64 {
        sum(&self.log_probabilities[self.sequences[index].clone()])
    }
}

/// Adds the sums of a micro-batch to those of the ones before.
pub(crate) fn add(sums: &mut Vec<f64>, more: &[f64]) {
    sums.resize(more.len(), 0.0);
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// The sum of log-probabilities in their order: the same bits every time.
pub(crate) fn sum(log_probabilities: &[f32]) -> f64 {
    log_probabilities.iter().map(|&value| f64::from(value)).sum()
}

impl Objective {
    /// The objective of this name.
    pub fn named(name: &str) -> Option<&'static Objective> {
        ALL.iter().find(|objective| objective.name == name).copied()
    }

    /// Units of `batches`.
    pub fn units<'b>(&self, batches: impl IntoIterator<Item = &'b Batch>) -> usize {
        let of = |batch: &Batch| match self.unit {
            Unit::Label => batch.trained,
            Unit::Record => batch.sequences.len() / self.records.sequences(),
        };
        batches.into_iter().map(of).sum()
    }

    /// The means that `sums` over `units` units give.
    pub fn means(&self, sums: &[f64], units: usize) -> Metrics {
        let mean = |sum: f64| sum / units as f64;
        let (loss, others) = sums.split_first().map_or((0.0, sums), |(loss, others)| (*loss, others));
        let others = self.metrics.iter().zip(others).map(|(&name, &sum)| Metric { name, value: mean(sum) });
        Metrics { loss: mean(loss), others: others.collect() }
    }
}

impl Default for &Objective {
    fn default() -> Self {
        &SFT
    }
}

impl fmt::Debug for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Objective {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_objective_reports_what_it_names() {
        for objective in ALL {
            assert!(std::ptr::eq(Objective::named(objective.name).expect("listed"), *objective), "{objective:?}");
            let sequences = objective.records.sequences();
            let log_probabilities: Vec<f32> = (0..2 * sequences).map(|i| -0.5 - i as f32).collect();
            let ranges: Vec<Range<usize>> = (0..sequences).map(|i| 2 * i..2 * i + 2).collect();
            let reference: Vec<f64> = vec![-2.0; if objective.reference { sequences } else { 0 }];
            let scores = Scores {
                log_probabilities: &log_probabilities,
                sequences: &ranges,
                reference: &reference,
                share: 0.25,
            };
            let options = ObjectiveOptions { objective, ..ObjectiveOptions::default() };
            for sums in [objective.sums, objective.held_out] {
                assert_eq!(sums(&scores, &options).len(), 1 + objective.metrics.len(), "{objective:?}");
            }
            if let Some(weights) = objective.weights {
                derivatives_of_the_loss(objective, weights, scores, &options);
            }
        }
    }

    /// Weights are minus the derivatives of the loss, where the loss is what is differentiated: DFT's is not, its
    /// factor is detached.
    fn derivatives_of_the_loss(
        objective: &Objective,
        weights: fn(&Scores<'_>, &ObjectiveOptions) -> Vec<f32>,
        scores: Scores<'_>,
        options: &ObjectiveOptions,
    ) {
        let weights = weights(&scores, options);
        assert_eq!(weights.len(), scores.log_probabilities.len(), "{objective:?}");
        if objective.unit == Unit::Label {
            return;
        }
        for (i, weight) in weights.iter().enumerate() {
            let loss = |step: f32| {
                let mut moved = scores.log_probabilities.to_vec();
                moved[i] += step;
                (objective.sums)(&Scores { log_probabilities: &moved, ..scores }, options)[0] * scores.share
            };
            let slope = (loss(1.0 / 128.0) - loss(-1.0 / 128.0)) * 64.0;
            assert!((slope + f64::from(*weight)).abs() < 1e-5, "{objective:?} {i}: {slope} {weight}");
        }
    }
}
