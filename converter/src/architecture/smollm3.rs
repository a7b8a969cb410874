//! SmolLM3: no rotation in every fourth layer.

use loam_files::gguf::Metadata;

use super::Config;
use super::family::{Family, PLAIN};
use super::rules;
use crate::Result;

pub(super) const FAMILY: Family = Family {
    architecture: "smollm3",
    classes: &["SmolLM3ForCausalLM"],
    model_types: &["smollm3"],
    permuted: true,
    tied: true,
    defaults: &[("rope_theta", 2e6)],
    extras,
    ..PLAIN
};

/// llama.cpp leaves the rotation out in layers 3, 7, 11 and so on, whatever the file says.
fn extras(config: &Config, _: &mut Metadata) -> Result<()> {
    let json = &config.text;
    rules::no_biases(config)?;
    rules::no_window(config)?;
    let rotated = json.list("no_rope_layers")?;
    let expected = |layer: usize| u64::from(!(layer + 1).is_multiple_of(4));
    let same = |(layer, value): (usize, &serde_json::Value)| value.as_u64() == Some(expected(layer));
    let layers = config.layers as usize;
    if !rotated.is_empty() && (rotated.len() < layers || !rotated.iter().enumerate().take(layers).all(same)) {
        let problem = "must leave out every fourth layer, as llama.cpp's smollm3 does";
        return Err(json.error("no_rope_layers", problem));
    }
    if rotated.is_empty() && json.count("no_rope_layer_interval", u64::MAX)?.unwrap_or(4) != 4 {
        return Err(json.error("no_rope_layer_interval", "must be 4, as in llama.cpp's smollm3"));
    }
    Ok(())
}
