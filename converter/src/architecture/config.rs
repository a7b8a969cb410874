//! config.json, checked: every number that later sizes something has a range.

use std::path::{Path, PathBuf};

use loam_files::gguf::Metadata;

use super::family::Width;
use super::rope::{self, RopeScaling, RopeSettings};
use super::{FAMILIES, Family};
use crate::source::Json;
use crate::{Error, Result};

/// Largest width, vocabulary and context that are taken.
const MAX_SIZE: u64 = 1 << 24;
/// llama.cpp stops at 512 layers.
const MAX_LAYERS: u64 = 512;
const MAX_HEADS: u64 = 1 << 16;
/// llama.cpp stops at 512 experts.
const MAX_EXPERTS: u64 = 512;

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: u64,
    /// How many a token goes through.
    pub used: u64,
    /// Width of the feed-forward layer of each.
    pub intermediate: u64,
}

/// What config.json says about a model.
#[derive(Debug, Clone)]
pub struct Config {
    /// config.json.
    pub path: PathBuf,
    /// The table that describes the model.
    pub family: &'static Family,
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
    /// Width of a head that is rotated, even.
    pub rotary: u64,
    /// `max_position_embeddings`.
    pub context: u64,
    /// `rms_norm_eps`.
    pub eps: f64,
    /// Rotary embedding.
    pub rope: RopeSettings,
    /// `sliding_window`: keys that a token sees, in layers that have a window.
    pub window: Option<u64>,
    /// `use_sliding_window`.
    pub uses_window: Option<bool>,
    /// The experts of each block.
    pub experts: Option<Experts>,
    /// The head is the embedding.
    pub tied: bool,
    /// `attention_bias`: q, k, v and output projections have biases.
    pub attention_bias: bool,
    /// `mlp_bias`: gate, up and down projections have biases.
    pub mlp_bias: bool,
    /// The whole file, for ids of special tokens and the license.
    pub json: Json,
    /// The part of it that describes the text model: the whole file, or `text_config`.
    pub text: Json,
    /// Keys that only this family has.
    pub extras: Metadata,
    /// What the user should know.
    pub notes: Vec<String>,
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
        let family = family(&json)?;
        let mut notes = notes(&json);
        let part = text_part(&json, family)?;
        let composite = part.is_some();
        let mut text = part.unwrap_or_else(|| json.clone());
        for (key, value) in family.defaults {
            text.default(key, *value);
        }
        refuse_options(&text, family)?;
        let heads = text.need_count("num_attention_heads", MAX_HEADS)?;
        let hidden = text.need_count("hidden_size", MAX_SIZE)?;
        let head_dim = head_dim(&text, hidden, heads)?;
        let context = text.need_count("max_position_embeddings", MAX_SIZE)?;
        let rope = rope::read(&text, family, context, &mut notes)?;
        let mut config = Config {
            path: json.path.clone(),
            family,
            vocab_size: text.need_count("vocab_size", MAX_SIZE)?,
            hidden,
            intermediate: text.need_count("intermediate_size", MAX_SIZE)?,
            layers: text.need_count("num_hidden_layers", MAX_LAYERS)?,
            heads,
            kv_heads: kv_heads(&text, heads)?,
            head_dim,
            rotary: rotary(&text, family, &rope, head_dim)?,
            context,
            eps: text.positive("rms_norm_eps")?.ok_or_else(|| text.error("rms_norm_eps", "is missing"))?,
            rope,
            window: text.count("sliding_window", MAX_SIZE)?,
            uses_window: text.flag("use_sliding_window")?,
            experts: if family.experts { Some(experts(&text)?) } else { None },
            tied: tied(&json, &text, composite, &mut notes)?.unwrap_or(family.tied),
            attention_bias: text.flag("attention_bias")?.unwrap_or(false),
            mlp_bias: text.flag("mlp_bias")?.unwrap_or(false),
            extras: Metadata::new(),
            notes,
            json,
            text,
        };
        let mut extras = Metadata::new();
        (family.extras)(&config, &mut extras)?;
        config.extras = extras;
        Ok(config)
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> &'static str {
        self.family.architecture
    }

    /// A dimension of a tensor. Each factor is at most 2^24, so nothing overflows.
    pub fn width(&self, width: Width) -> u64 {
        match width {
            Width::Hidden => self.hidden,
            Width::HeadDim => self.head_dim,
            Width::Queries => self.heads * self.head_dim,
            Width::Keys => self.kv_heads * self.head_dim,
            Width::QueriesKeysValues => (self.heads + 2 * self.kv_heads) * self.head_dim,
            Width::Intermediate => self.intermediate,
            Width::GateUp => 2 * self.intermediate,
            Width::Experts => self.experts.map_or(0, |experts| experts.count),
        }
    }
}

/// The family that `architectures`, or else `model_type`, names.
fn family(json: &Json) -> Result<&'static Family> {
    let list = json.list("architectures")?;
    let model_type = json.text("model_type")?;
    let (found, family) = match list {
        [] => {
            let by_type = |family: &&Family| model_type.is_some_and(|name| family.model_types.contains(&name));
            (model_type.unwrap_or("(none named)"), FAMILIES.iter().find(by_type))
        }
        [one] => {
            let name = one.as_str().ok_or_else(|| json.error("architectures", "must be a list of names"))?;
            (name, FAMILIES.iter().find(|family| family.classes.contains(&name)))
        }
        _ => return Err(json.error("architectures", "names several")),
    };
    if let Some(family) = family {
        return check_type(json, found, family);
    }
    let classes: Vec<&str> = FAMILIES.iter().flat_map(|family| family.classes).copied().collect();
    let (found, supported) = (found.escape_debug().to_string(), classes.join(", "));
    if json.get("auto_map").is_some() {
        let problem = format!(
            "the model runs its own Python code, which loam never executes, and architecture {found} is not supported \
             (supported: {supported})"
        );
        return Err(json.error("auto_map", problem));
    }
    Err(Error::Architecture { path: json.path.clone(), found, supported })
}

/// Transformers go by `model_type`: a class of another family beside it is one name too many.
fn check_type(json: &Json, class: &str, family: &'static Family) -> Result<&'static Family> {
    match json.text("model_type")? {
        Some(found) if !family.model_types.contains(&found) => {
            let types = family.model_types.join(" or ");
            let problem =
                format!("is {found:?}, but architectures names {class}, which has {types}: one of them is wrong");
            Err(json.error("model_type", problem))
        }
        _ => Ok(family),
    }
}

/// The part of config.json that a model with images keeps of its text model; `None` for a text model.
fn text_part(json: &Json, family: &Family) -> Result<Option<Json>> {
    let class = json.list("architectures")?.first().and_then(|class| class.as_str());
    let name = json.text("model_type")?.or(class).unwrap_or_default();
    match (json.object("text_config")?, family.composite.contains(&name)) {
        (None, true) => Err(json.error("text_config", format!("is missing, where {name} has its text model"))),
        (Some(_), false) => {
            let problem = format!("is there, but {name} is a text model, which has its settings beside it");
            Err(json.error("text_config", problem))
        }
        (part, _) => Ok(part),
    }
}

/// Options that would change the computation and that GGUF cannot say.
fn refuse_options(text: &Json, family: &Family) -> Result<()> {
    let (key, expected) = family.activation;
    let same = |found: &str| ACTIVATIONS.iter().any(|names| names.contains(&found) && names.contains(&expected));
    match text.text(key)? {
        Some(other) if other != expected && !same(other) => {
            Err(text.error(key, format!("{other:?} is not supported, only {expected:?}")))
        }
        _ => Ok(()),
    }
}

/// Names of Transformers for one function.
const ACTIVATIONS: [&[&str]; 2] =
    [&["silu", "swish"], &["gelu_pytorch_tanh", "gelu_python_tanh", "gelu_new", "gelu_fast", "gelu_accurate"]];

/// `tie_word_embeddings`; of a model with images that of the whole counts, as in Transformers.
fn tied(json: &Json, text: &Json, composite: bool, notes: &mut Vec<String>) -> Result<Option<bool>> {
    const KEY: &str = "tie_word_embeddings";
    let (whole, part) = (json.flag(KEY)?, text.flag(KEY)?);
    if composite && part.is_some() && part != whole.or(Some(true)) {
        notes.push(format!("{KEY} of text_config is not followed: that of the whole model counts, as in Transformers"));
    }
    Ok(whole)
}

fn notes(json: &Json) -> Vec<String> {
    let code =
        json.get("auto_map").map(|_| "auto_map is ignored: the model's Python code is never executed".to_owned());
    code.into_iter().collect()
}

fn experts(text: &Json) -> Result<Experts> {
    let (count, other) = (text.count("num_experts", MAX_EXPERTS)?, text.count("num_local_experts", MAX_EXPERTS)?);
    if let (Some(count), Some(other)) = (count, other)
        && count != other
    {
        return Err(text.error("num_local_experts", format!("is {other}, num_experts is {count}: both mean the same")));
    }
    let count = count.or(other).ok_or_else(|| text.error("num_experts", "is missing"))?;
    let used = text.need_count("num_experts_per_tok", count)?;
    Ok(Experts { count, used, intermediate: text.need_count("moe_intermediate_size", MAX_SIZE)? })
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

/// `partial_rotary_factor` of a head, which scaling factors must fit.
fn rotary(text: &Json, family: &Family, rope: &RopeSettings, head_dim: u64) -> Result<u64> {
    // At most head_dim, which is at most 2^24, so it is exact.
    let rotary = (head_dim as f64 * rope.part) as u64;
    if rope.part != 1.0 && !family.partial_rotary {
        let problem = format!("{} is not supported, only 1", rope.part);
        return Err(text.error("partial_rotary_factor", problem));
    }
    if rope.part > 1.0 || rotary == 0 || !rotary.is_multiple_of(2) {
        let problem = format!("{} of {head_dim} is no even part of a head", rope.part);
        return Err(text.error("partial_rotary_factor", problem));
    }
    if let RopeScaling::LongRope { short, long, .. } = &rope.scaling
        && (short.len() as u64, long.len() as u64) != (rotary / 2, rotary / 2)
    {
        let problem = format!(
            "short_factor has {}, long_factor {} numbers, a head has {} pairs",
            short.len(),
            long.len(),
            rotary / 2
        );
        return Err(text.error("rope_scaling", problem));
    }
    Ok(rotary)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
