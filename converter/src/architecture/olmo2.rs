//! OLMo 2: norms after each part, and on all queries and keys at once.

use super::family::{Family, Head, Norm, PLAIN, Width};
use super::rules;

const NORMS: [Norm; 4] = [
    ("post_attention_layernorm", "post_attention_norm", Width::Hidden),
    ("post_feedforward_layernorm", "post_ffw_norm", Width::Hidden),
    ("self_attn.q_norm", "attn_q_norm", Width::Queries),
    ("self_attn.k_norm", "attn_k_norm", Width::Keys),
];

pub(super) const FAMILY: Family = Family {
    architecture: "olmo2",
    classes: &["Olmo2ForCausalLM"],
    model_types: &["olmo2"],
    norms: &NORMS,
    head: Head::Always,
    extras: |config, _| {
        rules::no_biases(config)?;
        rules::whole_heads(config)
    },
    ..PLAIN
};
