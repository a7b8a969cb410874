//! What several families refuse, because a stock llama.cpp would compute something else.

use loam_files::gguf::Metadata;

use super::Config;
use crate::Result;
use crate::source::Json;

/// No biases but those that the family always has.
pub(super) fn no_biases(config: &Config) -> Result<()> {
    for (key, on) in [("attention_bias", config.attention_bias), ("mlp_bias", config.mlp_bias)] {
        if on {
            let problem = format!("true is not supported: llama.cpp's {} has no such biases", config.architecture());
            return Err(config.text.error(key, problem));
        }
    }
    Ok(())
}

/// No sliding window: one that is named counts only if `use_sliding_window` says true.
pub(super) fn no_window(config: &Config) -> Result<()> {
    let json = &config.text;
    let window = config.window.filter(|window| *window < config.context);
    if window.is_some() && config.uses_window == Some(true) {
        let problem = format!("true is not supported: llama.cpp's {} has no window", config.architecture());
        return Err(json.error("use_sliding_window", problem));
    }
    if json.list("layer_types")?.iter().any(|kind| !full(kind)) {
        return Err(json.error("layer_types", "names layers without full attention, which are not supported"));
    }
    Ok(())
}

/// Writes the window that every layer of Mistral's first models has, if it is shorter than the context.
pub(super) fn window_everywhere(config: &Config, out: &mut Metadata) -> Result<()> {
    let json = &config.text;
    let kinds = json.list("layer_types")?;
    // Transformers read no use_sliding_window here.
    let absent = config.window.is_none() && !json.is_null("sliding_window");
    let default = (absent && is_mistral(json)?).then_some(MISTRAL_WINDOW);
    let window = config.window.or(default).filter(|window| *window < config.context);
    if window.is_some() && !is_mistral(json)? {
        return Err(json.error("sliding_window", "is shorter than the context, which only Mistral's models have"));
    }
    let kind = if window.is_some() { "sliding_attention" } else { "full_attention" };
    if kinds.iter().any(|found| found.as_str() != Some(kind) && !(window.is_none() && full(found))) {
        return Err(json.error("layer_types", format!("must be {kind} in every layer, or left out")));
    }
    if let Some(window) = window {
        out.set(format!("{}.attention.sliding_window", config.architecture()), window as u32);
    }
    Ok(())
}

/// The window of Mistral's models that say nothing of it; null is none.
const MISTRAL_WINDOW: u64 = 4096;

/// Whether Transformers compute a model of the family of Llama as Mistral's: by `model_type`, else by the class.
fn is_mistral(json: &Json) -> Result<bool> {
    let class = json.list("architectures")?.first().and_then(|class| class.as_str());
    let named = json.text("model_type")?.or(class);
    Ok(["mistral", "MistralForCausalLM"].map(Some).contains(&named))
}

/// Whether a layer has full attention; `attention` is an older name.
fn full(kind: &serde_json::Value) -> bool {
    ["full_attention", "attention"].map(Some).contains(&kind.as_str())
}

/// Writes the window and its layers: all but every `period`-th layer have it in llama.cpp. Another period gets a key:
/// `layer_types` say it, else the `pattern` of config.json.
pub(super) fn window(config: &Config, period: u64, pattern: Option<u64>, out: &mut Metadata) -> Result<()> {
    let json = &config.text;
    let window = config.window.ok_or_else(|| json.error("sliding_window", "is missing"))?;
    let architecture = config.architecture();
    out.set(format!("{architecture}.attention.sliding_window"), window as u32);
    let kinds = json.list("layer_types")?;
    let found = match kinds {
        [] => pattern.unwrap_or(period),
        _ if kinds.len() as u64 != config.layers => {
            let problem = format!("has {} entries, num_hidden_layers is {}", kinds.len(), config.layers);
            return Err(json.error("layer_types", problem));
        }
        _ => {
            let windowed = |layer: u64, period: u64| !(layer + 1).is_multiple_of(period);
            let name =
                |layer: u64, period| if windowed(layer, period) { "sliding_attention" } else { "full_attention" };
            let fits = |period: &u64| (0..).zip(kinds).all(|(layer, kind)| kind.as_str() == Some(name(layer, *period)));
            let periods = std::iter::once(period).chain(1..=config.layers);
            let problem = "must be full_attention in every n-th layer and sliding_attention in the others";
            periods.into_iter().find(fits).ok_or_else(|| json.error("layer_types", problem))?
        }
    };
    if found != period {
        out.set(format!("{architecture}.attention.sliding_window_pattern"), found as u32);
    }
    Ok(())
}

/// llama.cpp divides the queries by the square root of the head's width, or of hidden / heads in a model of `large`
/// layers. Another divisor gets a key, which loam reads.
pub(super) fn attention_scalar(config: &Config, large: u64, out: &mut Metadata) -> Result<()> {
    let expected = if config.layers == large { config.hidden / config.heads } else { config.head_dim };
    if let Some(scalar) = config.text.positive("query_pre_attn_scalar")?
        && scalar != expected as f64
    {
        out.set(format!("{}.attention.scale", config.architecture()), scalar.powf(-0.5) as f32);
    }
    Ok(())
}

/// Every token sees the tokens before it only.
pub(super) fn causal(config: &Config) -> Result<()> {
    match config.text.flag("use_bidirectional_attention")? {
        Some(true) => Err(config.text.error("use_bidirectional_attention", "true is not supported")),
        _ => Ok(()),
    }
}

/// The heads together are as wide as the residual stream.
pub(super) fn whole_heads(config: &Config) -> Result<()> {
    if config.head_dim * config.heads == config.hidden {
        return Ok(());
    }
    let problem = format!(
        "{} times {} heads is not hidden_size = {}, as llama.cpp's {} needs it",
        config.head_dim,
        config.heads,
        config.hidden,
        config.architecture()
    );
    Err(config.text.error("head_dim", problem))
}
