//! Causal language modelling: the mean negative log-likelihood of every token.

use super::sft::negative_log_likelihood;
use super::{Objective, Unit};
use crate::data::Records;

/// Causal language modelling.
pub static CLM: Objective = Objective {
    name: "clm",
    summary: "Causal language modelling: loss on every token",
    records: Records::Texts,
    unit: Unit::Label,
    reference: false,
    options: &[],
    metrics: &[],
    weights: None,
    sums: negative_log_likelihood,
    held_out: negative_log_likelihood,
};
