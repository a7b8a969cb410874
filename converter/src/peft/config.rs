//! adapter_config.json. Everything that changes the computation and is not read is refused by name.

use std::path::Path;

use regex::Regex;
use serde_json::Value;

use crate::source::Json;
use crate::source::json::brief;
use crate::{Error, Result};

/// Largest rank that is taken.
const MAX_RANK: u64 = 1 << 16;
/// Initialisations that change the base's weights, so that the adapter is no update of the original base.
const BASE_CHANGING: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];
/// Options that GGUF cannot express: refused unless null, false or empty.
const REFUSED: [(&str, &str); 14] = [
    ("use_dora", "DoRA has a magnitude vector, which GGUF adapters cannot hold"),
    ("use_qalora", "QALoRA pools its inputs"),
    ("modules_to_save", "whole modules were trained besides the adapter"),
    ("trainable_token_indices", "embeddings were trained besides the adapter"),
    ("target_parameters", "parameters outside of linear layers are targeted"),
    ("fan_in_fan_out", "weights are stored transposed"),
    ("lora_bias", "B has a bias"),
    ("layer_replication", "the base's layers are rearranged"),
    ("alora_invocation_tokens", "the adapter is switched on by tokens (aLoRA)"),
    ("arrow_config", "several adapters are routed (Arrow)"),
    ("kappa_tuner_config", "the scale is changed while running"),
    ("velora_config", "activations are compressed"),
    ("kasa_config", "the base's weights are truncated (KaSA)"),
    ("use_bdlora", "A and B are block-diagonal (BD-LoRA)"),
];

/// What an update's scale depends on.
#[derive(Debug, Clone)]
pub struct PeftConfig {
    /// `r`: the rank of modules that no pattern names.
    pub rank: u64,
    /// `lora_alpha`.
    pub alpha: f64,
    /// Scale by alpha / sqrt(rank) instead of alpha / rank.
    pub rslora: bool,
    /// `base_model_name_or_path`.
    pub base_name: Option<String>,
    /// `alpha_pattern`: alphas of the modules that match.
    alpha_patterns: Vec<(Regex, f64)>,
}

impl PeftConfig {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// The file is missing, malformed, not of a LoRA, or has an option that GGUF cannot express.
    pub fn read(path: &Path) -> Result<PeftConfig> {
        PeftConfig::parse(&Json::read(path)?)
    }

    fn parse(json: &Json) -> Result<PeftConfig> {
        match json.text("peft_type")? {
            Some("LORA") => {}
            other => {
                let problem = format!("{other:?} is not supported, only \"LORA\"");
                return Err(json.error("peft_type", problem));
            }
        }
        refuse(json)?;
        Ok(PeftConfig {
            rank: json.need_count("r", MAX_RANK)?,
            alpha: json.positive("lora_alpha")?.ok_or_else(|| json.error("lora_alpha", "is missing"))?,
            rslora: json.flag("use_rslora")?.unwrap_or(false),
            base_name: json.text("base_model_name_or_path")?.map(str::to_owned),
            alpha_patterns: patterns(json)?,
        })
    }

    /// The scale of the update of `module` (`model.layers.0.self_attn.q_proj`), whose rank is `rank`.
    pub fn scale(&self, module: &str, rank: usize) -> f64 {
        let pattern = self.alpha_patterns.iter().find(|(pattern, _)| pattern.is_match(module));
        let alpha = pattern.map_or(self.alpha, |(_, alpha)| *alpha);
        alpha / self.divisor(rank as f64)
    }

    /// The alpha of the GGUF file: the one that gives modules without patterns their scale as alpha / rank.
    pub fn gguf_alpha(&self) -> f32 {
        match self.rslora {
            true => (self.alpha * (self.rank as f64).sqrt()) as f32,
            false => self.alpha as f32,
        }
    }

    fn divisor(&self, rank: f64) -> f64 {
        if self.rslora { rank.sqrt() } else { rank }
    }
}

fn refuse(json: &Json) -> Result<()> {
    let off = |value: &Value| match value {
        Value::Bool(on) => !on,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    for (key, why) in REFUSED {
        if let Some(value) = json.get(key).filter(|value| !off(value)) {
            return Err(json.error(key, format!("is {}, which cannot be converted: {why}", brief(value))));
        }
    }
    match json.text("bias")? {
        None | Some("none") => {}
        Some(other) => return Err(json.error("bias", format!("{other:?} cannot be converted: biases were trained"))),
    }
    let init = json.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default();
    let lower = init.to_ascii_lowercase();
    if BASE_CHANGING.iter().any(|name| lower.starts_with(name)) {
        let problem = format!("{init:?} changes the base's weights; save the adapter converted to plain LoRA");
        return Err(json.error("init_lora_weights", problem));
    }
    Ok(())
}

/// `alpha_pattern`: regular expressions that match whole module names or the end of them behind a dot, as in PEFT.
fn patterns(json: &Json) -> Result<Vec<(Regex, f64)>> {
    let Some(map) = json.object("alpha_pattern")? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for key in map.keys() {
        let alpha = map.positive(key)?.ok_or_else(|| map.error(key, "must be a positive number"))?;
        let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).map_err(|e| {
            let field = format!("alpha_pattern.{}", key.escape_debug());
            Error::field(&json.path, field, format!("is no pattern that can be matched: {e}"))
        })?;
        out.push((regex, alpha));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(edit: Value) -> Result<PeftConfig> {
        let mut value = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "modules_to_save": null,
            "use_dora": false, "init_lora_weights": true, "alpha_pattern": {}, "rank_pattern": {}});
        value.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        PeftConfig::parse(&Json::from_value(Path::new("adapter_config.json"), "", value))
    }

    #[test]
    fn scales_are_those_of_peft() {
        let plain = parse(json!({})).unwrap();
        assert_eq!((plain.scale("model.layers.0.mlp.up_proj", 4), plain.gguf_alpha()), (2.0, 8.0));
        assert_eq!(plain.scale("model.layers.0.mlp.up_proj", 2), 4.0);
        let rslora = parse(json!({"use_rslora": true})).unwrap();
        assert_eq!((rslora.scale("x", 4), rslora.gguf_alpha()), (4.0, 16.0));
        let pattern = json!({"q_proj": 16, r"layers\.1\..*": 4, "^model.layers.2.mlp.up_proj": 2});
        let patterns = parse(json!({ "alpha_pattern": pattern })).unwrap();
        assert_eq!(patterns.scale("model.layers.0.self_attn.q_proj", 4), 4.0);
        assert_eq!(patterns.scale("model.layers.1.mlp.up_proj", 4), 1.0);
        assert_eq!(patterns.scale("model.layers.2.mlp.up_proj", 4), 0.5);
        assert_eq!(patterns.scale("model.layers.0.self_attn.xq_proj", 4), 2.0);
    }

    #[test]
    fn what_gguf_cannot_express_is_named() {
        let cases = [
            ("peft_type", json!("LOHA")),
            ("use_dora", json!(true)),
            ("bias", json!("all")),
            ("modules_to_save", json!(["lm_head"])),
            ("trainable_token_indices", json!([1])),
            ("init_lora_weights", json!("pissa_niter_16")),
            ("fan_in_fan_out", json!(true)),
            ("r", json!(0)),
            ("r", json!("8")),
            ("lora_alpha", json!(-1)),
            ("lora_alpha", json!(null)),
            ("alpha_pattern", json!({"(": 1})),
            ("alpha_pattern", json!({"q_proj": 0})),
        ];
        for (key, value) in cases {
            let message = parse(json!({ key: value })).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains("adapter_config.json"), "{message}");
        }
    }
}
