//! Phi-3, Phi-3.5 and Phi-4-mini: fused projections, long-context factors.

use loam_files::gguf::Metadata;

use super::Config;
use super::family::{ATTENTION_OUTPUT, Bias, Family, Linear, PLAIN, Width, linear};
use super::rules;
use crate::Result;

const FUSED_ATTENTION: [Linear; 1] =
    [linear("self_attn.qkv_proj", "attn_qkv", Width::Hidden, Width::QueriesKeysValues, Bias::Never)];
const FUSED_FEED_FORWARD: [Linear; 2] = [
    linear("mlp.gate_up_proj", "ffn_up", Width::Hidden, Width::GateUp, Bias::Never),
    linear("mlp.down_proj", "ffn_down", Width::Intermediate, Width::Hidden, Bias::Never),
];

pub(super) const FAMILY: Family = Family {
    architecture: "phi3",
    classes: &["Phi3ForCausalLM"],
    model_types: &["phi3"],
    linears: &[&FUSED_ATTENTION, &ATTENTION_OUTPUT, &FUSED_FEED_FORWARD],
    rope_types: &["longrope"],
    partial_rotary: true,
    unread: &["attention.sliding_window"],
    extras,
    ..PLAIN
};

fn extras(config: &Config, out: &mut Metadata) -> Result<()> {
    rules::no_biases(config)?;
    rules::whole_heads(config)?;
    out.set("phi3.rope.scaling.original_context_length", config.rope.original_context.unwrap_or(config.context) as u32);
    // 0 marks a model without a window.
    out.set("phi3.attention.sliding_window", config.window.unwrap_or(0) as u32);
    Ok(())
}
