//! Granite 3: Llama with four multipliers.

use loam_files::gguf::Metadata;

use super::Config;
use super::family::{Family, PLAIN};
use crate::Result;

/// Field of config.json, key after `granite.`.
const SCALES: [(&str, &str); 4] = [
    ("attention_multiplier", "attention.scale"),
    ("embedding_multiplier", "embedding_scale"),
    ("residual_multiplier", "residual_scale"),
    ("logits_scaling", "logit_scale"),
];

pub(super) const FAMILY: Family = Family {
    architecture: "granite",
    classes: &["GraniteForCausalLM"],
    model_types: &["granite"],
    permuted: true,
    rope_types: &["linear", "llama3", "yarn"],
    extras,
    ..PLAIN
};

fn extras(config: &Config, out: &mut Metadata) -> Result<()> {
    for (field, key) in SCALES {
        out.set(format!("granite.{key}"), config.text.positive(field)?.unwrap_or(1.0) as f32);
    }
    Ok(())
}
