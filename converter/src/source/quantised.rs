//! Checkpoints that are quantised already, in ways that GGUF has no name for: told apart by config.json, by the names
//! of their tensors, or by element types. They are refused by name: reading the pieces as weights would give nonsense.

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

/// Refuses what `quantization_config` in config.json names.
///
/// # Errors
/// [`Error::Field`].
pub fn check_config(json: &Json) -> Result<()> {
    let Some(found) = json.get("quantization_config") else { return Ok(()) };
    let flag = |key: &str| found.get(key).and_then(serde_json::Value::as_bool) == Some(true);
    let method = match found.get("quant_method").and_then(serde_json::Value::as_str) {
        Some(method) => method.escape_debug().to_string(),
        None if flag("load_in_4bit") || flag("load_in_8bit") => "bitsandbytes".into(),
        None => "an unknown method".into(),
    };
    let problem = format!("the weights are quantised already, by {method}; {ORIGINAL}");
    Err(json.error("quantization_config", problem))
}

/// Refuses checkpoints whose tensors show how they were quantised although config.json does not say so.
///
/// # Errors
/// [`Error::Tensor`].
pub fn check_names(weights: &Checkpoint) -> Result<()> {
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
