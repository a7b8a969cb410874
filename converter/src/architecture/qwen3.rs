//! Qwen3: norms on each query and key head.

use super::family::{Family, PLAIN, PRE_AND_HEAD_NORMS};
use super::rules;

pub(super) const FAMILY: Family = Family {
    architecture: "qwen3",
    classes: &["Qwen3ForCausalLM"],
    model_types: &["qwen3"],
    norms: &PRE_AND_HEAD_NORMS,
    extras: |config, _| {
        rules::no_biases(config)?;
        rules::no_window(config)
    },
    ..PLAIN
};
