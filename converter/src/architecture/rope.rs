//! Rotary embedding settings of config.json. Whatever is not understood is refused by name: a key that gets lost
//! changes the model.

use super::Family;
use crate::Result;
use crate::source::Json;
use crate::source::json::brief;

/// Largest context that is taken.
const MAX_CONTEXT: u64 = 1 << 24;
const ORIGINAL: &str = "original_max_position_embeddings";

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
    /// YaRN (arXiv 2309.00071): as Llama 3.1 with a ramp over dimensions, and q and k scaled by 0.1 ln(factor) + 1.
    Yarn {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Context that the model was trained on before scaling, in tokens.
        original_context: u64,
        /// Turns within the original context above which a frequency is kept.
        beta_fast: f64,
        /// Turns below which it is divided in full.
        beta_slow: f64,
    },
    /// Phi-3 (arXiv 2402.13753): one divisor per frequency, for contexts up to the original one and for longer ones.
    LongRope {
        /// Divisors within the original context.
        short: Vec<f32>,
        /// Divisors beyond it.
        long: Vec<f32>,
        /// What q and k are scaled by.
        attention_factor: f64,
    },
}

/// Rotary embedding of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSettings {
    /// Base of the rotary frequencies.
    pub theta: f64,
    /// Base in layers with a sliding window, where it is another one.
    pub local_theta: Option<f64>,
    /// Scaling of the rotary frequencies.
    pub scaling: RopeScaling,
    /// Part of a head that is rotated.
    pub part: f64,
    /// Context before scaling, in tokens, where config.json names one.
    pub original_context: Option<u64>,
}

/// `rope_theta` and `rope_scaling`, or both inside `rope_parameters` as newer Transformers write them, there for each
/// kind of layer if they differ.
pub(super) fn read(json: &Json, family: &Family, context: u64) -> Result<RopeSettings> {
    let parameters = json.object("rope_parameters")?;
    let nested = |key| parameters.as_ref().map_or(Ok(None), |p| p.object(key));
    let (full, sliding) = (nested("full_attention")?, nested("sliding_attention")?);
    if let (Some(parameters), Some(_)) = (&parameters, full.as_ref().or(sliding.as_ref()))
        && let Some(key) = parameters.keys().find(|key| !["full_attention", "sliding_attention"].contains(key))
    {
        return Err(parameters.error(key, "stands beside the settings of single kinds of layers"));
    }
    let dict = match full.or(parameters) {
        Some(parameters) => Some(parameters),
        None => json.object("rope_scaling")?,
    };
    let number = |key: &str| match dict.as_ref().map_or(Ok(None), |dict| dict.positive(key))? {
        Some(value) => Ok(Some(value)),
        None => json.positive(key),
    };
    let original = dict.as_ref().map_or(Ok(None), |dict| dict.count(ORIGINAL, MAX_CONTEXT))?;
    let original_context = original.or(json.count(ORIGINAL, MAX_CONTEXT)?);
    let theta = number("rope_theta")?.unwrap_or(10_000.0);
    let part = number("partial_rotary_factor")?.unwrap_or(1.0);
    let local_theta = match &sliding {
        Some(sliding) => local(sliding)?,
        None => json.positive("rope_local_base_freq")?,
    };
    let scaling = match &dict {
        Some(dict) => scaling(dict, family, context, original_context)?,
        None => RopeScaling::None,
    };
    Ok(RopeSettings { theta, local_theta, scaling, part, original_context })
}

/// The base of layers with a window, which nothing else may be said of.
fn local(sliding: &Json) -> Result<Option<f64>> {
    if !matches!(sliding.text("rope_type")?, None | Some("default")) {
        return Err(sliding.error("rope_type", "is not supported in layers with a window (default is)"));
    }
    match sliding.keys().find(|key| !["rope_type", "rope_theta"].contains(key) && sliding.get(key).is_some()) {
        Some(key) => Err(unknown(sliding, key)),
        None => sliding.positive("rope_theta"),
    }
}

fn unknown(dict: &Json, key: &str) -> crate::Error {
    let value = dict.get(key).map(brief).unwrap_or_default();
    dict.error(key, format!("unknown rope option (value {value}); it would be lost"))
}

fn scaling(dict: &Json, family: &Family, context: u64, original_context: Option<u64>) -> Result<RopeScaling> {
    let kind = match dict.text("rope_type")?.or(dict.text("type")?).unwrap_or("default") {
        "none" => "default",
        // Names that Phi-3 used before; Transformers computes longrope for both.
        "su" | "yarn" if family.rope_types.contains(&"longrope") => "longrope",
        kind => kind,
    };
    if kind != "default" && !family.rope_types.contains(&kind) {
        let known = family.rope_types.join(", ");
        let problem = format!("{kind:?} is not supported for {} (default, {known} are)", family.architecture);
        return Err(dict.error("rope_type", problem));
    }
    let need = |key: &str| dict.positive(key)?.ok_or_else(|| dict.error(key, "is missing"));
    let (scaling, known): (RopeScaling, &[&str]) = match kind {
        "linear" => (RopeScaling::Linear { factor: need("factor")? }, &["factor"]),
        "llama3" => {
            let low = dict.positive("low_freq_factor")?.unwrap_or(1.0);
            let high = dict.positive("high_freq_factor")?.unwrap_or(4.0);
            if high <= low {
                return Err(dict.error("high_freq_factor", format!("{high} must be over low_freq_factor = {low}")));
            }
            let original_context = original_context.unwrap_or(8192);
            let scaling = RopeScaling::Llama3 { factor: need("factor")?, low, high, original_context };
            (scaling, &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL])
        }
        "yarn" => {
            let original_context = original_context.ok_or_else(|| dict.error(ORIGINAL, "is missing"))?;
            let beta_fast = dict.positive("beta_fast")?.unwrap_or(32.0);
            let beta_slow = dict.positive("beta_slow")?.unwrap_or(1.0);
            let scaling = RopeScaling::Yarn { factor: need("factor")?, original_context, beta_fast, beta_slow };
            (scaling, &["factor", "beta_fast", "beta_slow", ORIGINAL])
        }
        "longrope" => {
            let named = original_context.or(dict.get("factor").is_none().then_some(context));
            let original_context = named.ok_or_else(|| dict.error(ORIGINAL, "is missing"))?;
            let scaling = long_rope(dict, context, original_context)?;
            (scaling, &["factor", "short_factor", "long_factor", "attention_factor", ORIGINAL])
        }
        _ => (RopeScaling::None, &[ORIGINAL]),
    };
    let common = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
    match dict.keys().find(|key| !known.contains(key) && !common.contains(key) && dict.get(key).is_some()) {
        None => Ok(scaling),
        Some(key) => Err(unknown(dict, key)),
    }
}

/// The scale of q and k is sqrt(1 + ln(s) / ln(original)) with s = context / original unless config.json names it.
fn long_rope(dict: &Json, context: u64, original: u64) -> Result<RopeScaling> {
    let factors = |key: &str| -> Result<Vec<f32>> {
        let wrong = |value: &str| dict.error(key, format!("must be a list of positive numbers, holds {value}"));
        let list = dict.list(key)?;
        if list.is_empty() {
            return Err(dict.error(key, "is missing"));
        }
        let number = |value: &serde_json::Value| match value.as_f64().map(|x| x as f32) {
            Some(x) if x.is_finite() && x > 0.0 => Ok(x),
            _ => Err(wrong(&brief(value))),
        };
        list.iter().map(number).collect()
    };
    let scale = context as f64 / original as f64;
    let computed = if scale > 1.0 { (1.0 + scale.ln() / (original as f64).ln()).sqrt() } else { 1.0 };
    if !computed.is_finite() {
        return Err(dict.error(ORIGINAL, format!("{original} is too short")));
    }
    let attention_factor = dict.positive("attention_factor")?.unwrap_or(computed);
    Ok(RopeScaling::LongRope { short: factors("short_factor")?, long: factors("long_factor")?, attention_factor })
}
