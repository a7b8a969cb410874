//! Gemma 2: norms before and after each part, soft caps, a window in every other layer.

use loam_files::gguf::Metadata;

use super::Config;
use super::family::{Family, Head, Norm, PLAIN, Width};
use super::rules;
use crate::Result;

pub(super) const NORMS: [Norm; 4] = [
    ("input_layernorm", "attn_norm", Width::Hidden),
    ("post_attention_layernorm", "post_attention_norm", Width::Hidden),
    ("pre_feedforward_layernorm", "ffn_norm", Width::Hidden),
    ("post_feedforward_layernorm", "post_ffw_norm", Width::Hidden),
];

pub(super) const FAMILY: Family = Family {
    architecture: "gemma2",
    classes: &["Gemma2ForCausalLM"],
    model_types: &["gemma2"],
    norms: &NORMS,
    norm_plus: 1.0,
    tied: true,
    head: Head::Never,
    activation: ("hidden_activation", "gelu_pytorch_tanh"),
    rope_types: &["linear"],
    defaults: &[
        ("head_dim", 256.0),
        ("query_pre_attn_scalar", 256.0),
        ("rms_norm_eps", 1e-6),
        ("max_position_embeddings", 8192.0),
    ],
    unread: &["attention.scale"],
    extras,
    ..PLAIN
};

fn extras(config: &Config, out: &mut Metadata) -> Result<()> {
    let json = &config.text;
    rules::no_biases(config)?;
    rules::causal(config)?;
    // llama.cpp knows the 27 B model by its 46 layers.
    rules::attention_scalar(config, 46, out)?;
    // Transformers read no pattern here: every other layer has the window.
    rules::window(config, 2, None, out)?;
    for (key, name, default) in
        [("attn_logit_softcapping", "attn_logit", 50.0), ("final_logit_softcapping", "final_logit", 30.0)]
    {
        if json.is_null(key) {
            return Err(json.error(key, "must be a number: llama.cpp's gemma2 always has soft caps"));
        }
        let cap = json.positive(key)?.unwrap_or(default);
        out.set(format!("gemma2.{name}_softcapping"), cap as f32);
    }
    Ok(())
}
