//! Qwen3 with a mixture of experts in every block.

use loam_files::gguf::Metadata;

use super::Config;
use super::family::{
    ATTENTION_OUTPUT, Bias, Family, Linear, PLAIN, PRE_AND_HEAD_NORMS, QUERIES_KEYS_VALUES, Width, linear,
};
use super::rules;
use crate::Result;

const ROUTER: [Linear; 1] = [linear("mlp.gate", "ffn_gate_inp", Width::Hidden, Width::Experts, Bias::Never)];

pub(super) const FAMILY: Family = Family {
    architecture: "qwen3moe",
    classes: &["Qwen3MoeForCausalLM"],
    model_types: &["qwen3_moe"],
    norms: &PRE_AND_HEAD_NORMS,
    linears: &[&QUERIES_KEYS_VALUES, &ATTENTION_OUTPUT, &ROUTER],
    experts: true,
    unread: &["expert_weights_norm"],
    extras,
    ..PLAIN
};

/// llama.cpp routes every block of a qwen3moe model.
fn extras(config: &Config, out: &mut Metadata) -> Result<()> {
    let json = &config.text;
    rules::no_biases(config)?;
    rules::no_window(config)?;
    // Transformers scale the weights of the chosen experts to a sum of one only where this is true; llama.cpp always
    // does.
    if json.flag("norm_topk_prob")? != Some(true) {
        out.set("qwen3moe.expert_weights_norm", false);
    }
    if json.count("decoder_sparse_step", u64::MAX)?.unwrap_or(1) != 1 {
        return Err(json.error("decoder_sparse_step", "must be 1: every block has experts in llama.cpp's qwen3moe"));
    }
    if !json.list("mlp_only_layers")?.is_empty() {
        return Err(json.error("mlp_only_layers", "must be empty: every block has experts in llama.cpp's qwen3moe"));
    }
    if let Some(experts) = &config.experts {
        // All at most 2^24.
        out.set("qwen3moe.expert_count", experts.count as u32);
        out.set("qwen3moe.expert_used_count", experts.used as u32);
        out.set("qwen3moe.expert_feed_forward_length", experts.intermediate as u32);
    }
    Ok(())
}
