//! Gemma 3: as Gemma 2 without soft caps, with norms on each head and another rope base in the layers with a window.

use loam_files::gguf::Metadata;

use super::Config;
use super::family::{Family, Norm, PLAIN, Width};
use super::{gemma2, rules};
use crate::Result;

const NORMS: [Norm; 6] = [
    gemma2::NORMS[0],
    gemma2::NORMS[1],
    gemma2::NORMS[2],
    gemma2::NORMS[3],
    ("self_attn.q_norm", "attn_q_norm", Width::HeadDim),
    ("self_attn.k_norm", "attn_k_norm", Width::HeadDim),
];

pub(super) const FAMILY: Family = Family {
    architecture: "gemma3",
    classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    model_types: &["gemma3_text", "gemma3"],
    norms: &NORMS,
    norm_plus: 1.0,
    tied: true,
    activation: ("hidden_activation", "gelu_pytorch_tanh"),
    rope_types: &["linear"],
    local_rope: true,
    composite: &["Gemma3ForConditionalGeneration", "gemma3"],
    // Published configurations of models with images name only what differs from these.
    defaults: &[
        ("vocab_size", 262_208.0),
        ("num_attention_heads", 8.0),
        ("num_key_value_heads", 4.0),
        ("head_dim", 256.0),
        ("query_pre_attn_scalar", 256.0),
        ("rms_norm_eps", 1e-6),
        ("max_position_embeddings", 131_072.0),
        ("sliding_window", 4096.0),
        ("rope_theta", 1e6),
        ("rope_local_base_freq", 1e4),
    ],
    unread: &["attention.scale"],
    extras,
    ..PLAIN
};

fn extras(config: &Config, out: &mut Metadata) -> Result<()> {
    let json = &config.text;
    rules::no_biases(config)?;
    rules::causal(config)?;
    // llama.cpp knows the 27 B model by its 62 layers.
    rules::attention_scalar(config, 62, out)?;
    let period = json.count("sliding_window_pattern", 512)?;
    rules::window(config, 6, period, out)?;
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if json.get(key).is_some() {
            return Err(json.error(key, "must be null: llama.cpp's gemma3 has no soft caps"));
        }
    }
    out.set("gemma3.rope.freq_base_swa", config.rope.local_theta.unwrap_or(1e4) as f32);
    Ok(())
}
