//! Qwen2 and Qwen2.5: biases on q, k and v.

use super::family::{ATTENTION_OUTPUT, Bias, FEED_FORWARD, Family, Linear, PLAIN, SeventyBillion, Width, linear};
use super::rules;

const QUERIES_KEYS_VALUES: [Linear; 3] = [
    linear("self_attn.q_proj", "attn_q", Width::Hidden, Width::Queries, Bias::Always),
    linear("self_attn.k_proj", "attn_k", Width::Hidden, Width::Keys, Bias::Always),
    linear("self_attn.v_proj", "attn_v", Width::Hidden, Width::Keys, Bias::Always),
];

pub(super) const FAMILY: Family = Family {
    architecture: "qwen2",
    classes: &["Qwen2ForCausalLM"],
    model_types: &["qwen2"],
    linears: &[&QUERIES_KEYS_VALUES, &ATTENTION_OUTPUT, &FEED_FORWARD],
    seventy_billion: SeventyBillion::Always,
    extras: |config, _| {
        rules::no_biases(config)?;
        rules::no_window(config)
    },
    ..PLAIN
};
