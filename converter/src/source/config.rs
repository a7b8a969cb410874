//! config.json of a llama-like model, checked: every number that later sizes something has a range.

use std::path::{Path, PathBuf};

use super::json::{Json, brief};
use crate::{Error, Result};

/// Largest width, vocabulary and context that are taken.
const MAX_SIZE: u64 = 1 << 24;
/// llama.cpp stops at 512 layers.
const MAX_LAYERS: u64 = 512;
const MAX_HEADS: u64 = 1 << 16;
/// Architectures that the llama table covers, as `architectures` names them.
const SUPPORTED: [&str; 2] = ["LlamaForCausalLM", "MistralForCausalLM"];

/// How positions are scaled beyond the trained context.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Plain rotary embedding.
    None,
    /// Positions are divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies are divided by `factor`, high ones kept, those between blended.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low` are divided in full.
        low: f64,
        /// Wavelengths below `original_context / high` are kept.
        high: f64,
        /// Context that the model was trained on before scaling, in tokens.
        original_context: u64,
    },
}

/// What config.json says about a llama-like model.
#[derive(Debug, Clone)]
pub struct Config {
    /// config.json.
    pub path: PathBuf,
    /// Rows of the embedding.
    pub vocab_size: u64,
    /// `hidden_size`.
    pub hidden: u64,
    /// `intermediate_size`.
    pub intermediate: u64,
    /// `num_hidden_layers`.
    pub layers: u64,
    /// `num_attention_heads`.
    pub heads: u64,
    /// `num_key_value_heads`; equal to `heads` if not given.
    pub kv_heads: u64,
    /// Width of one head, even.
    pub head_dim: u64,
    /// `max_position_embeddings`.
    pub context: u64,
    /// `rms_norm_eps`.
    pub eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// The head is the embedding.
    pub tied: bool,
    /// q, k, v and output projections have biases.
    pub attention_bias: bool,
    /// gate, up and down projections have biases.
    pub mlp_bias: bool,
    /// The whole file, for ids of special tokens and the license.
    pub json: Json,
}

impl Config {
    /// Reads and checks config.json.
    ///
    /// # Errors
    /// The file is missing or malformed, names another architecture, or a field is missing or out of range.
    pub fn read(path: &Path) -> Result<Config> {
        Config::parse(Json::read(path)?)
    }

    fn parse(json: Json) -> Result<Config> {
        check_architecture(&json)?;
        refuse_options(&json)?;
        let heads = json.need_count("num_attention_heads", MAX_HEADS)?;
        let hidden = json.need_count("hidden_size", MAX_SIZE)?;
        let context = json.need_count("max_position_embeddings", MAX_SIZE)?;
        refuse_window(&json, context)?;
        let (rope_theta, rope_scaling) = rope(&json)?;
        Ok(Config {
            path: json.path.clone(),
            vocab_size: json.need_count("vocab_size", MAX_SIZE)?,
            hidden,
            intermediate: json.need_count("intermediate_size", MAX_SIZE)?,
            layers: json.need_count("num_hidden_layers", MAX_LAYERS)?,
            heads,
            kv_heads: kv_heads(&json, heads)?,
            head_dim: head_dim(&json, hidden, heads)?,
            context,
            eps: json.positive("rms_norm_eps")?.ok_or_else(|| json.error("rms_norm_eps", "is missing"))?,
            rope_theta,
            rope_scaling,
            tied: json.flag("tie_word_embeddings")?.unwrap_or(false),
            attention_bias: json.flag("attention_bias")?.unwrap_or(false),
            mlp_bias: json.flag("mlp_bias")?.unwrap_or(false),
            json,
        })
    }
}

fn check_architecture(json: &Json) -> Result<()> {
    let supported = "LlamaForCausalLM, MistralForCausalLM";
    let unknown = |found: String| Error::Architecture { path: json.path.clone(), found, supported };
    let list = json.list("architectures")?;
    let name = match list {
        [] if json.text("model_type")? == Some("llama") => return Ok(()),
        [] => return Err(unknown(json.text("model_type")?.unwrap_or("(none named)").escape_debug().to_string())),
        [one] => one.as_str().ok_or_else(|| json.error("architectures", "must be a list of names"))?,
        _ => return Err(json.error("architectures", "names several")),
    };
    if SUPPORTED.contains(&name) { Ok(()) } else { Err(unknown(name.escape_debug().to_string())) }
}

/// Options that would change the computation and that GGUF's llama architecture cannot say.
fn refuse_options(json: &Json) -> Result<()> {
    if json.get("auto_map").is_some() {
        return Err(json.error("auto_map", "the model runs its own Python code, which loam never executes"));
    }
    if json.get("quantization_config").is_some() {
        return Err(json.error("quantization_config", "the weights are quantised already; convert the original model"));
    }
    match json.text("hidden_act")? {
        None | Some("silu") => {}
        Some(other) => return Err(json.error("hidden_act", format!("{other:?} is not supported, only \"silu\""))),
    }
    if let Some(part) = json.number("partial_rotary_factor")?
        && part != 1.0
    {
        return Err(json.error("partial_rotary_factor", format!("{part} is not supported, only 1")));
    }
    Ok(())
}

/// llama.cpp's llama architecture has no sliding window: a shorter window than the context would be lost silently.
fn refuse_window(json: &Json, context: u64) -> Result<()> {
    match json.count("sliding_window", MAX_SIZE)? {
        Some(window) if window < context => {
            let problem = format!("{window} is shorter than the context of {context}, which is not supported");
            Err(json.error("sliding_window", problem))
        }
        _ => Ok(()),
    }
}

fn kv_heads(json: &Json, heads: u64) -> Result<u64> {
    let kv_heads = json.count("num_key_value_heads", MAX_HEADS)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let problem = format!("{kv_heads} does not divide num_attention_heads = {heads}");
        return Err(json.error("num_key_value_heads", problem));
    }
    Ok(kv_heads)
}

fn head_dim(json: &Json, hidden: u64, heads: u64) -> Result<u64> {
    let head_dim = match json.count("head_dim", MAX_SIZE)? {
        Some(n) => n,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            return Err(json.error("head_dim", format!("is missing and hidden_size {hidden} / {heads} is no integer")));
        }
    };
    if head_dim % 2 != 0 {
        return Err(json.error("head_dim", format!("{head_dim} is odd")));
    }
    Ok(head_dim)
}

/// `rope_theta` and `rope_scaling`, or both inside `rope_parameters` as newer Transformers write them.
fn rope(json: &Json) -> Result<(f64, RopeScaling)> {
    let parameters = json.object("rope_parameters")?;
    let dict = match &parameters {
        Some(parameters) => Some(parameters.clone()),
        None => json.object("rope_scaling")?,
    };
    let nested = parameters.as_ref().map_or(Ok(None), |p| p.positive("rope_theta"))?;
    let theta = nested.or(json.positive("rope_theta")?).unwrap_or(10_000.0);
    let scaling = match dict {
        Some(dict) => scaling(json, &dict)?,
        None => RopeScaling::None,
    };
    Ok((theta, scaling))
}

fn scaling(json: &Json, dict: &Json) -> Result<RopeScaling> {
    let kind = dict.text("rope_type")?.or(dict.text("type")?).unwrap_or("default");
    let need = |key: &str| dict.positive(key)?.ok_or_else(|| dict.error(key, "is missing"));
    let (scaling, known): (RopeScaling, &[&str]) = match kind {
        "default" | "none" => (RopeScaling::None, &[]),
        "linear" => (RopeScaling::Linear { factor: need("factor")? }, &["factor"]),
        "llama3" => {
            let key = "original_max_position_embeddings";
            let original = dict.count(key, MAX_SIZE)?.or(json.count(key, MAX_SIZE)?).unwrap_or(8192);
            let low = dict.positive("low_freq_factor")?.unwrap_or(1.0);
            let high = dict.positive("high_freq_factor")?.unwrap_or(4.0);
            if high <= low {
                return Err(dict.error("high_freq_factor", format!("{high} must be over low_freq_factor = {low}")));
            }
            let scaling = RopeScaling::Llama3 { factor: need("factor")?, low, high, original_context: original };
            (scaling, &["factor", "low_freq_factor", "high_freq_factor", key])
        }
        other => {
            return Err(dict.error("rope_type", format!("{other:?} is not supported (default, linear, llama3 are)")));
        }
    };
    let common = ["rope_type", "type", "rope_theta"];
    match dict.keys().find(|key| !known.contains(key) && !common.contains(key) && dict.get(key).is_some()) {
        None => Ok(scaling),
        Some(key) => {
            let value = dict.get(key).map(brief).unwrap_or_default();
            Err(dict.error(key, format!("unknown rope option (value {value}); it would be lost")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> Result<Config> {
        let text = r#"{"architectures":["LlamaForCausalLM"],"hidden_act":"silu","hidden_size":64,"intermediate_size":192,
            "max_position_embeddings":1024,"num_attention_heads":4,"num_hidden_layers":4,"num_key_value_heads":2,
            "rms_norm_eps":1e-5,"vocab_size":4096}"#;
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        edit(value.as_object_mut().unwrap());
        Config::parse(Json::from_value(Path::new("config.json"), "", value))
    }

    fn with(key: &str, value: &str) -> Result<Config> {
        parse(|map| drop(map.insert(key.into(), serde_json::from_str(value).unwrap())))
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let c = parse(|_| ()).unwrap();
        assert_eq!((c.head_dim, c.kv_heads, c.rope_theta, c.tied), (16, 2, 10_000.0, false));
        assert_eq!(c.rope_scaling, RopeScaling::None);
        assert_eq!(parse(|map| drop(map.remove("num_key_value_heads"))).unwrap().kv_heads, 4);
    }

    #[test]
    fn both_spellings_of_rope_are_read() {
        let old = with("rope_scaling", r#"{"type":"linear","factor":2}"#).unwrap();
        assert_eq!(old.rope_scaling, RopeScaling::Linear { factor: 2.0 });
        let new = with("rope_parameters", r#"{"rope_type":"default","rope_theta":500000.0}"#).unwrap();
        assert_eq!((new.rope_theta, new.rope_scaling), (500_000.0, RopeScaling::None));
        let llama3 = r#"{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8192}"#;
        let expected = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192 };
        assert_eq!(with("rope_scaling", llama3).unwrap().rope_scaling, expected);
    }

    #[test]
    fn what_cannot_be_converted_is_refused_by_name() {
        let cases = [
            ("architectures", r#"["GPTNeoXForCausalLM"]"#, "GPTNeoXForCausalLM"),
            ("architectures", r#""LlamaForCausalLM""#, "architectures"),
            ("auto_map", r#"{"AutoModel":"x.Y"}"#, "auto_map"),
            ("quantization_config", r#"{"load_in_4bit":true}"#, "quantization_config"),
            ("hidden_act", r#""gelu""#, "hidden_act"),
            ("rope_scaling", r#"{"rope_type":"yarn","factor":4}"#, "rope_scaling.rope_type"),
            ("rope_scaling", r#"{"rope_type":"linear","factor":4,"beta_fast":32}"#, "rope_scaling.beta_fast"),
            ("rope_scaling", r#"{"rope_type":"linear"}"#, "rope_scaling.factor"),
            ("num_key_value_heads", "3", "num_key_value_heads"),
            ("hidden_size", r#""64""#, "hidden_size"),
            ("hidden_size", "1e30", "hidden_size"),
            ("num_hidden_layers", "100000", "num_hidden_layers"),
            ("num_hidden_layers", "0", "num_hidden_layers"),
            ("rms_norm_eps", "-1", "rms_norm_eps"),
            ("head_dim", "15", "head_dim"),
            ("sliding_window", "512", "sliding_window"),
            ("vocab_size", "null", "vocab_size"),
        ];
        for (key, value, named) in cases {
            let message = with(key, value).expect_err(key).to_string();
            assert!(message.contains(named) && message.contains("config.json"), "{message}");
        }
    }
}
