//! Adapters inside golden files, taken in through PEFT's own file layout.

use loam::{AdapterFile, Base};
use safetensors::SafeTensors;
use serde_json::Value;

/// The adapter under `prefix` of a golden file: PEFT's tensors and, in its json, `rank`, `alpha` and `targets`.
///
/// # Panics
/// If there is none, or it does not fit `base`.
pub fn golden_adapter(tensors: &[u8], prefix: &str, json: &Value, base: &Base) -> AdapterFile {
    let folder = tempfile::tempdir().expect("temporary folder");
    let all = SafeTensors::deserialize(tensors).expect("safetensors");
    let renamed: Vec<_> = all
        .tensors()
        .into_iter()
        .filter_map(|(name, view)| {
            let rest = name.strip_prefix(prefix)?.strip_prefix('.')?.to_owned();
            Some((format!("base_model.model.{rest}"), view))
        })
        .collect();
    assert!(!renamed.is_empty(), "no tensors under {prefix}");
    let bytes = safetensors::serialize(renamed, None).expect("serialize");
    std::fs::write(folder.path().join("adapter_model.safetensors"), bytes).expect("write");
    let config = serde_json::json!({
        "peft_type": "LORA", "r": json["rank"], "lora_alpha": json["alpha"],
        "target_modules": json["targets"], "bias": "none", "fan_in_fan_out": false, "task_type": "CAUSAL_LM",
    });
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).expect("write");
    let out = folder.path().join("adapter.gguf");
    loam_convert::peft::from_peft(folder.path(), base.file(), &out).expect("from_peft");
    AdapterFile::read(&out).expect("adapter")
}
