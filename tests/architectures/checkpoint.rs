//! Folders as Hugging Face has them, with the weights and adapters that `make_golden.py` computed with.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

/// Rank and alpha of every adapter.
const RANK: usize = 4;
const ALPHA: f64 = 8.0;

/// A tensor's name and shape, as PyTorch has it.
pub type Shaped = (String, Vec<usize>);

/// Writes config.json, tokenizer.json and model.safetensors. `norm_center` is what norms lie around.
pub fn write_model(folder: &Path, config: &[u8], weights: &[Shaped], norm_center: f64) {
    std::fs::write(folder.join("config.json"), config).expect("config.json");
    std::fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).expect("tokenizer.json");
    let values = weights.iter().map(|(name, shape)| (name.clone(), shape.clone(), fill(name, shape, norm_center)));
    write(&folder.join("model.safetensors"), values.collect());
}

/// A tensor's name, shape and values.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// Writes the adapter of `values` as PEFT does, names without `base_model.model.`.
pub fn write_adapter(folder: &Path, config: &serde_json::Value, values: Vec<Named>) {
    let named = values.into_iter().map(|(name, shape, values)| (format!("base_model.model.{name}"), shape, values));
    write(&folder.join("adapter_model.safetensors"), named.collect());
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).expect("adapter_config.json");
}

/// adapter_config.json of the adapters of make_golden.py.
pub fn all_linear() -> serde_json::Value {
    serde_json::json!({
        "peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": "all-linear", "bias": "none",
        "fan_in_fan_out": false, "task_type": "CAUSAL_LM",
    })
}

/// The values of the tensor `name`: `fill` of make_golden.py, with the same bits.
pub fn fill(name: &str, shape: &[usize], norm_center: f64) -> Vec<f32> {
    let cols = *shape.last().expect("a tensor has dimensions") as f64;
    let (center, spread) = match name {
        _ if name.contains("norm") => (norm_center, 0.2),
        _ if name.ends_with(".bias") => (0.0, 0.2),
        _ if name.contains("lora_B") => (0.0, 0.1),
        _ if name.contains("embed_tokens") => (0.0, 0.25),
        _ => (0.0, (3.0 / cols).sqrt()),
    };
    uniform(name, shape.iter().product()).map(|u| (center + spread * u) as f32).collect()
}

/// Uniform in [-1, 1): the upper 24 bits of SplitMix64, started from the FNV-1a hash of `name`.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    (1..=count as u64).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 40) as f64 / f64::from(1 << 23) - 1.0
    })
}

/// Byte-level BPE of 64 single characters.
fn tokenizer() -> serde_json::Value {
    let vocab: serde_json::Map<_, _> = (0..64u8).map(|id| (char::from(b'!' + id).to_string(), id.into())).collect();
    let level =
        serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    serde_json::json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
}

fn write(path: &Path, values: Vec<Named>) {
    let views = values.iter().map(|(name, shape, values)| {
        let bytes = bytemuck::cast_slice(values);
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("shape"))
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("serialize")).expect("write");
}
