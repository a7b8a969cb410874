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
/// kind of layer if they differ. Where a setting is there twice, the one counts that Transformers take, with a note.
pub(super) fn read(json: &Json, family: &Family, context: u64, notes: &mut Vec<String>) -> Result<RopeSettings> {
    let Places { full, sliding } = places(json, family, notes)?;
    let mut number = |key: &str, inside| {
        let outside = json.positive(key)?;
        notes.extend(twice(key, inside, outside, family));
        Ok::<_, crate::Error>(inside.or(outside))
    };
    let theta = number("rope_theta", full.positive("rope_theta")?)?.unwrap_or(10_000.0);
    let part = number("partial_rotary_factor", full.positive("partial_rotary_factor")?)?.unwrap_or(1.0);
    let local_theta = number("rope_local_base_freq", sliding.as_ref().map_or(Ok(None), local)?)?;
    let kind = kind(&full, family, notes)?;
    let original_context = original_context(json, &full, kind, context, notes)?;
    let scaling = scaling(&full, kind, context, original_context)?;
    Ok(RopeSettings { theta, local_theta, scaling, part, original_context })
}

/// What settings of rotation are read from.
struct Places {
    /// Of layers with full attention, or of all.
    full: Json,
    /// Of layers with a window, in families where they differ.
    sliding: Option<Json>,
}

const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];

/// Transformers prefer the older `rope_scaling` where `rope_parameters` is there too: for layers with full attention
/// it is laid over it, in other families it takes its place with all that it says.
fn places(json: &Json, family: &Family, notes: &mut Vec<String>) -> Result<Places> {
    let old = json.object("rope_scaling")?.filter(|old| old.keys().next().is_some());
    let new = json.object("rope_parameters")?.filter(|new| new.keys().next().is_some());
    let both = old.is_some() && new.is_some();
    let empty = |name: &str| Json::from_value(&json.path, name, serde_json::json!({}));
    if !family.local_rope {
        if let (Some(_), Some(new)) = (&old, &new) {
            let lost = if new.get("rope_theta").is_some() { ", also of its rope_theta" } else { "" };
            notes.push(format!("{BOTH}: rope_scaling takes the place of rope_parameters{lost}, as in Transformers"));
        }
        return Ok(Places { full: old.or(new).unwrap_or_else(|| empty("rope_scaling")), sliding: None });
    }
    if let Some(new) = &new
        && let Some(key) = new.keys().find(|key| !KINDS.contains(key))
    {
        return Err(new.error(key, "stands beside the settings of single kinds of layers, where nothing reads it"));
    }
    let of = |kind| new.as_ref().map_or(Ok(None), |new| new.object(kind));
    let [full, sliding] = KINDS.map(of);
    let full = full?.unwrap_or_else(|| empty("rope_parameters.full_attention"));
    let full = old.map_or(full.clone(), |old| full.with(&old));
    if both {
        notes.push(format!("{BOTH}: rope_scaling is laid over rope_parameters.full_attention, as in Transformers"));
    }
    Ok(Places { full, sliding: sliding? })
}

const BOTH: &str = "rope_scaling and rope_parameters are both in config.json";

/// A note if a setting has one value `inside` of the settings of rotation and another `outside` of them, where it is
/// called `key`: the one inside counts.
fn twice(key: &str, inside: Option<f64>, outside: Option<f64>, family: &Family) -> Option<String> {
    let (inside, outside) = (inside?, outside?);
    // What the family takes without a word is no second spelling.
    let told = inside != outside && !family.defaults.contains(&(key, outside));
    told.then(|| {
        format!(
            "{key} is there twice, {outside} and {inside}: that of the rotation, {inside}, counts, as in Transformers"
        )
    })
}

/// Context before scaling. One beside the settings of rotation counts before one in them, as in Transformers.
fn original_context(
    json: &Json,
    dict: &Json,
    kind: &str,
    context: u64,
    notes: &mut Vec<String>,
) -> Result<Option<u64>> {
    /// What Phi-3 has if config.json does not say.
    const PHI3: u64 = 4096;
    let (outside, inside) = (json.count(ORIGINAL, MAX_CONTEXT)?, dict.count(ORIGINAL, MAX_CONTEXT)?);
    let outside = if kind == "longrope" { outside.or(Some(PHI3)) } else { outside };
    if let (Some(outside), Some(inside)) = (outside, inside)
        && outside != inside
    {
        let counts = format!("{outside} counts, as in Transformers");
        notes.push(format!("{ORIGINAL} is there twice, {outside} and {inside}: {counts}"));
    }
    let scaled = ["llama3", "yarn"].contains(&kind);
    Ok(outside.or(inside).or(scaled.then_some(context)))
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

/// `rope_type`, or `type` as it was called before.
fn kind<'d>(dict: &'d Json, family: &Family, notes: &mut Vec<String>) -> Result<&'d str> {
    let (new, old) = (dict.text("rope_type")?, dict.text("type")?);
    if let (Some(new), Some(old)) = (new, old)
        && new != old
    {
        notes.push(format!("rope_type is {new:?} and type {old:?}: rope_type counts, as in Transformers"));
    }
    let kind = match new.or(old).unwrap_or("default") {
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
    Ok(kind)
}

fn scaling(dict: &Json, kind: &str, context: u64, original_context: Option<u64>) -> Result<RopeScaling> {
    let need = |key: &str| dict.positive(key)?.ok_or_else(|| dict.error(key, "is missing"));
    let (scaling, known): (RopeScaling, &[&str]) = match kind {
        "linear" => (RopeScaling::Linear { factor: need("factor")? }, &["factor"]),
        "llama3" => {
            let low = dict.positive("low_freq_factor")?.unwrap_or(1.0);
            let high = dict.positive("high_freq_factor")?.unwrap_or(4.0);
            if high <= low {
                return Err(dict.error("high_freq_factor", format!("{high} must be over low_freq_factor = {low}")));
            }
            let original_context = original_context.unwrap_or(context);
            let scaling = RopeScaling::Llama3 { factor: need("factor")?, low, high, original_context };
            (scaling, &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL])
        }
        "yarn" => {
            let original_context = original_context.unwrap_or(context);
            let beta_fast = dict.positive("beta_fast")?.unwrap_or(32.0);
            let beta_slow = dict.positive("beta_slow")?.unwrap_or(1.0);
            // A factor of null is what the contexts say.
            let implied = dict.is_null("factor").then_some(context as f64 / original_context as f64);
            let factor = implied.map_or_else(|| need("factor"), Ok)?;
            let scaling = RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow };
            (scaling, &["factor", "beta_fast", "beta_slow", ORIGINAL])
        }
        "longrope" => {
            let scaling = long_rope(dict, context, original_context.unwrap_or(context))?;
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

/// The scale of q and k is sqrt(1 + ln(s) / ln(original)) unless config.json names it, with s its `factor`, else
/// context / original.
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
    let scale = dict.positive("factor")?.unwrap_or(context as f64 / original as f64);
    let computed = if scale > 1.0 { (1.0 + scale.ln() / (original as f64).ln()).sqrt() } else { 1.0 };
    if !computed.is_finite() {
        return Err(dict.error(ORIGINAL, format!("{original} is too short")));
    }
    let attention_factor = dict.positive("attention_factor")?.unwrap_or(computed);
    Ok(RopeScaling::LongRope { short: factors("short_factor")?, long: factors("long_factor")?, attention_factor })
}
