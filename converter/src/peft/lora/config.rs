//! adapter_config.json. Every option is read, known to leave the computation as it is, or refused by name; options that
//! are not known are refused unless they are off.

use regex::Regex;
use serde_json::Value;

use crate::peft::options;
use crate::source::Json;
use crate::source::json::brief;
use crate::{Error, Result};

/// Largest rank that is taken.
const MAX_RANK: u64 = 1 << 16;
/// Initialisations that leave the base's weights as they are; the others that PEFT has change them, so that the adapter
/// is no update of the original base.
const INITIALISATIONS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];
/// Options that GGUF cannot express: refused unless null, false or empty.
const REFUSED: [(&str, &str); 15] = [
    ("use_dora", "DoRA has a magnitude vector, which GGUF adapters cannot hold"),
    ("use_qalora", "QALoRA pools its inputs"),
    ("modules_to_save", "whole modules were trained besides the adapter"),
    ("trainable_token_indices", "rows of the embedding were trained besides the adapter"),
    ("fan_in_fan_out", "weights are stored transposed"),
    ("lora_bias", "B has a bias"),
    ("layer_replication", "the base's layers are rearranged"),
    ("alora_invocation_tokens", "the adapter is switched on by tokens (aLoRA)"),
    ("arrow_config", "several adapters are routed (Arrow)"),
    ("kappa_tuner_config", "the scale is changed while running"),
    ("velora_config", "activations are compressed"),
    ("kasa_config", "the base's weights are truncated (KaSA)"),
    ("use_bdlora", "A and B are block-diagonal (BD-LoRA)"),
    ("monteclora_config", "A and B are sampled (MonteCLoRA)"),
    ("megatron_config", "the modules are those of Megatron"),
];
/// Options that are read below.
const READ: [&str; 9] = [
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "alpha_pattern",
    "bias",
    "init_lora_weights",
    "base_model_name_or_path",
    "target_parameters",
];
/// Options that say which modules have an update (the weights name them), how it was trained, or where it is from.
const HARMLESS: [&str; 24] = [
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    // The weights have the ranks.
    "rank_pattern",
    // The weights have both updates.
    "ensure_weight_tying",
    "lora_dropout",
    "inference_mode",
    "task_type",
    "auto_mapping",
    "revision",
    "peft_version",
    "runtime_config",
    // Details of options that are off, or of an initialisation that is checked by its name.
    "qalora_group_size",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "ephemeral_gpu_offload",
    // Of other libraries that write PEFT's format.
    "lora_dtype",
    "lorap_lr_ratio",
    "lorap_emb_lr",
    "_custom_modules",
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
    /// Whether `target_parameters` names parameters, as for a router and experts.
    pub parameters: bool,
    /// `alpha_pattern`: alphas of the modules that match.
    alpha_patterns: Vec<(Regex, f64)>,
}

impl PeftConfig {
    /// Reads and checks an adapter_config.json.
    ///
    /// # Errors
    /// Something that is malformed, or an option that GGUF cannot express.
    pub fn parse(json: &Json) -> Result<PeftConfig> {
        refuse(json)?;
        Ok(PeftConfig {
            rank: json.need_count("r", MAX_RANK)?,
            alpha: json.positive("lora_alpha")?.ok_or_else(|| json.error("lora_alpha", "is missing"))?,
            rslora: json.flag("use_rslora")?.unwrap_or(false),
            base_name: json.text("base_model_name_or_path")?.map(str::to_owned),
            parameters: parameters(json)?,
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
    options::check(json, &[&READ, &HARMLESS], &REFUSED)?;
    match json.text("bias")? {
        None | Some("none") => {}
        Some(other) => return Err(json.error("bias", format!("{other:?} cannot be converted: biases were trained"))),
    }
    match json.get("init_lora_weights") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(Value::String(name)) if INITIALISATIONS.contains(&name.to_ascii_lowercase().as_str()) => Ok(()),
        Some(other) => {
            let problem = "may change the base's weights; save the adapter converted to plain LoRA";
            Err(json.error("init_lora_weights", format!("{} {problem}", brief(other))))
        }
    }
}

/// Whether `target_parameters` names any; it is a list of names or null.
fn parameters(json: &Json) -> Result<bool> {
    let names = if json.is_null("target_parameters") { &[] } else { json.list("target_parameters")? };
    match names.iter().find(|name| !name.is_string()) {
        Some(other) => Err(json.error("target_parameters", format!("has {}, which is no name", brief(other)))),
        None => Ok(!names.is_empty()),
    }
}

/// `alpha_pattern`: regular expressions that match whole module names or the end of them after a dot, as in PEFT.
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
    use std::path::Path;

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
            ("use_dora", json!(true)),
            ("bias", json!("all")),
            ("modules_to_save", json!(["lm_head"])),
            ("lora_bias", json!(true)),
            ("layer_replication", json!([[0, 4], [2, 5]])),
            ("alora_invocation_tokens", json!([1, 2])),
            ("megatron_config", json!({"tensor_model_parallel_size": 1})),
            ("monteclora_config", json!({"num_samples": 4})),
            ("velora_config", json!({"num_groups": 2})),
            ("kasa_config", json!({"beta": 1e-4})),
            ("use_qalora", json!(true)),
            ("use_bdlora", json!({"nblocks": 2})),
            ("arrow_config", json!({"top_k": 3})),
            ("an_option_of_tomorrow", json!(true)),
            ("an_option_of_tomorrow", json!(0.5)),
            ("trainable_token_indices", json!([1])),
            ("init_lora_weights", json!("pissa_niter_16")),
            ("init_lora_weights", json!("olora")),
            ("init_lora_weights", json!("loftq")),
            ("init_lora_weights", json!("one_of_tomorrow")),
            ("fan_in_fan_out", json!(true)),
            ("r", json!(0)),
            ("r", json!("8")),
            ("lora_alpha", json!(-1)),
            ("lora_alpha", json!(null)),
            ("alpha_pattern", json!({"(": 1})),
            ("alpha_pattern", json!({"q_proj": 0})),
            ("target_parameters", json!([1, 2])),
            ("target_parameters", json!("experts")),
            ("target_parameters", json!(true)),
        ];
        for (key, value) in cases {
            let message = parse(json!({ key: value })).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains("adapter_config.json"), "{message}");
        }
    }

    /// What PEFT 0.21 writes for a plain adapter, and options that change nothing.
    #[test]
    fn harmless_options_are_taken() {
        let plain = json!({
            "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": {"unsloth_fixed": true},
            "base_model_name_or_path": "some/model", "bias": "none", "corda_config": null, "ensure_weight_tying": true,
            "eva_config": null, "exclude_modules": ["v_proj"], "fan_in_fan_out": false, "inference_mode": true,
            "init_lora_weights": "eva", "kasa_config": null, "layer_replication": null, "layers_pattern": null,
            "layers_to_transform": [0, 1], "loftq_config": {}, "lora_alpha": 8, "lora_bias": false, "lora_dropout": 0.1,
            "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
            "monteclora_config": null, "peft_version": "0.21.2", "qalora_group_size": 16, "rank_pattern": {"q_proj": 2},
            "revision": "main", "target_modules": "all-linear", "target_parameters": null, "task_type": "CAUSAL_LM",
            "trainable_token_indices": null, "use_bdlora": null, "use_dora": false, "use_qalora": false,
            "use_rslora": false, "velora_config": null, "an_option_of_tomorrow": false, "another": null,
        });
        parse(plain).unwrap();
    }
}
