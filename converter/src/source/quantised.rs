//! Checkpoints that are quantised already, in ways that GGUF has no name for: told by the names and the element types
//! of their tensors. They are refused by name: reading the pieces as weights would give nonsense. What config.json says
//! of it names the method, but decides nothing: models that were merged back to 16 bits often keep its section.

use safetensors::Dtype;

use super::Json;
use super::safetensors::Checkpoint;
use crate::{Error, Result};

/// Ends of names that only quantised checkpoints have, with what makes them.
const TRACES: [(&str, &str); 9] = [
    (".SCB", "bitsandbytes"),
    (".weight.absmax", "bitsandbytes"),
    (".weight.quant_map", "bitsandbytes"),
    (".weight_format", "bitsandbytes"),
    (".qzeros", "GPTQ or AWQ"),
    (".g_idx", "GPTQ"),
    (".qweight", "GPTQ or AWQ"),
    (".weight_scale_inv", "FP8"),
    (".weight_packed", "compressed-tensors"),
];

/// Refuses weights that are quantised, by what `quantization_config` of config.json calls it. The note is about a
/// section that is left over beside weights that are not.
///
/// # Errors
/// [`Error::Field`], [`Error::Tensor`].
pub fn check(json: &Json, weights: &Checkpoint) -> Result<Option<String>> {
    let Some(found) = json.get("quantization_config") else { return check_names(weights).map(|()| None) };
    let method = method(found);
    if check_names(weights).is_err() || !weights.is_plain() {
        let problem = format!("the weights are quantised already, by {method}; {ORIGINAL}");
        return Err(json.error("quantization_config", problem));
    }
    let types = weights.types().join(" and ");
    Ok(Some(format!(
        "quantization_config of config.json names {method}, but the weights are plain {types}: it is left over and ignored"
    )))
}

/// What a `quantization_config` calls its method.
fn method(found: &serde_json::Value) -> String {
    let flag = |key: &str| found.get(key).and_then(serde_json::Value::as_bool) == Some(true);
    match found.get("quant_method").and_then(serde_json::Value::as_str) {
        Some(method) => method.escape_debug().take(60).collect(),
        None if flag("load_in_4bit") || flag("load_in_8bit") => "bitsandbytes".into(),
        None => "an unknown method".into(),
    }
}

/// Refuses checkpoints whose tensors show by their names how they were quantised.
///
/// # Errors
/// [`Error::Tensor`].
fn check_names(weights: &Checkpoint) -> Result<()> {
    for name in weights.names() {
        if let Some((_, method)) = TRACES.iter().find(|(end, _)| name.ends_with(end)) {
            let problem = format!("is part of a checkpoint that is quantised already, by {method}; {ORIGINAL}");
            let path = weights.paths().next().unwrap_or(std::path::Path::new("."));
            return Err(Error::tensor(path, name, problem));
        }
    }
    Ok(())
}

/// Why elements of type `dtype` are not read.
pub(super) fn problem(dtype: Dtype) -> String {
    let name = format!("{dtype:?}");
    if name.starts_with("F8") || name.starts_with("F4") || name.starts_with("F6") {
        return format!("has element type {name}: the checkpoint is quantised already; {ORIGINAL}");
    }
    format!("has element type {name}; F32, F16 and BF16 can be read")
}

const ORIGINAL: &str = "convert the original model in bf16, f16 or f32";
