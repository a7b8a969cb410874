//! Llama, Mistral, SmolLM and SmolLM2: GGUF architecture `llama`.
//!
//! ggml rotates adjacent pairs of a head, Transformers the two halves; the difference is moved into the order of the
//! rows of the q and k projections ([`permuted_row`]).

use loam::gguf::Metadata;

use super::{Model, ModelTensor, Origin, Piece, order};
use crate::source::config::RopeScaling;
use crate::source::{Checkpoint, Config, Source};
use crate::{Error, Result};

/// Value of `general.architecture`.
pub const ARCHITECTURE: &str = "llama";

/// Modules of a layer with a weight and, if `bias` says so, a bias: Hugging Face name, GGUF name.
const LINEAR: [(&str, &str); 7] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];
const NORMS: [(&str, &str); 2] = [("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")];

/// Row of the Hugging Face matrix that becomes row `row` of the GGUF matrix; `head_dim` is even.
/// Row `2i + s` of a head is row `s * head_dim / 2 + i` of the same head (s in 0, 1).
pub fn permuted_row(row: u64, head_dim: u64) -> u64 {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + (within % 2) * (head_dim / 2) + within / 2
}

/// GGUF name (without `.weight`) and head-permuted row count of a PEFT module such as `self_attn.q_proj` of a layer.
pub fn linear_name(module: &str) -> Option<&'static str> {
    LINEAR.iter().find(|(hf, _)| *hf == module).map(|(_, gguf)| *gguf)
}

/// The inverse of [`linear_name`].
pub fn module_name(gguf: &str) -> Option<&'static str> {
    LINEAR.iter().find(|(_, name)| *name == gguf).map(|(hf, _)| *hf)
}

/// Describes the model in `source`: every tensor with its shape checked against the configuration.
///
/// # Errors
/// A tensor is missing, unexpected, or of another shape than config.json says.
pub fn describe(source: &Source) -> Result<Model> {
    let config = &source.config;
    let mut notes = Vec::new();
    let mut tensors = tensors(config);
    if config.tied {
        check_tied_head(&source.weights, &mut notes)?;
    } else {
        tensors.push(plain("output.weight", "lm_head.weight", vec![config.hidden, config.vocab_size]));
    }
    check_checkpoint(source, &tensors)?;
    if let Some(factors) = rope_factors(config) {
        let shape = vec![factors.len() as u64];
        tensors.push(ModelTensor { name: "rope_freqs.weight".into(), shape, origin: Origin::Values(factors) });
    }
    tensors.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    Ok(Model { architecture: ARCHITECTURE, tensors, metadata: metadata(config), notes })
}

fn plain(name: impl Into<String>, hf: impl Into<String>, shape: Vec<u64>) -> ModelTensor {
    ModelTensor { name: name.into(), shape, origin: whole(hf.into(), None) }
}

/// All rows of the tensor `name`.
fn whole(name: String, permuted_heads: Option<u64>) -> Origin {
    Origin::Checkpoint { pieces: vec![Piece { name, row: 0 }], permuted_heads, plus: 0.0 }
}

/// Everything but the head.
fn tensors(config: &Config) -> Vec<ModelTensor> {
    let mut list = vec![
        plain("token_embd.weight", "model.embed_tokens.weight", vec![config.hidden, config.vocab_size]),
        plain("output_norm.weight", "model.norm.weight", vec![config.hidden]),
    ];
    for layer in 0..config.layers {
        for (hf, gguf) in NORMS {
            let hf = format!("model.layers.{layer}.{hf}.weight");
            list.push(plain(format!("blk.{layer}.{gguf}.weight"), hf, vec![config.hidden]));
        }
        for (hf, gguf) in LINEAR {
            let (inner, rows, heads, bias) = linear(config, gguf);
            let parts = [("weight", vec![inner, rows]), ("bias", vec![rows])];
            for (part, shape) in parts.into_iter().take(1 + usize::from(bias)) {
                let origin = whole(format!("model.layers.{layer}.{hf}.{part}"), heads);
                list.push(ModelTensor { name: format!("blk.{layer}.{gguf}.{part}"), shape, origin });
            }
        }
    }
    list
}

/// Inner and outer size, heads to permute, and whether there is a bias.
fn linear(config: &Config, gguf: &str) -> (u64, u64, Option<u64>, bool) {
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    match gguf {
        "attn_q" => (config.hidden, q, Some(config.heads), config.attention_bias),
        "attn_k" => (config.hidden, kv, Some(config.kv_heads), config.attention_bias),
        "attn_v" => (config.hidden, kv, None, config.attention_bias),
        "attn_output" => (q, config.hidden, None, config.attention_bias),
        "ffn_down" => (config.intermediate, config.hidden, None, config.mlp_bias),
        _ => (config.hidden, config.intermediate, None, config.mlp_bias),
    }
}

/// A tied model may still carry its head: it must be the embedding, and is left out.
fn check_tied_head(weights: &Checkpoint, notes: &mut Vec<String>) -> Result<()> {
    let Some(head) = weights.tensor("lm_head.weight")? else { return Ok(()) };
    let embedding = weights.tensor("model.embed_tokens.weight")?;
    if embedding.is_some_and(|e| e.float == head.float && e.shape == head.shape && e.bytes == head.bytes) {
        notes.push("lm_head.weight equals the embedding and is left out (tie_word_embeddings)".into());
        return Ok(());
    }
    let problem = "differs from model.embed_tokens.weight although config.json says tie_word_embeddings: true; set it to \
                   false to keep the head, or remove the tensor";
    Err(Error::tensor(head.path, "lm_head.weight", problem))
}

/// Every tensor is there with its shape, and nothing else is.
fn check_checkpoint(source: &Source, tensors: &[ModelTensor]) -> Result<()> {
    let mut expected = std::collections::HashSet::new();
    for tensor in tensors {
        let Origin::Checkpoint { pieces, .. } = &tensor.origin else { continue };
        let name = &pieces[0].name;
        expected.insert(name.as_str());
        let Some(view) = source.weights.tensor(name)? else {
            let hint = if name == "lm_head.weight" { " (tie_word_embeddings is false)" } else { "" };
            return Err(Error::tensor(&source.dir, name, format!("is missing{hint}")));
        };
        let shape: Vec<u64> = tensor.shape.iter().rev().copied().collect();
        if !view.shape.iter().map(|&n| n as u64).eq(shape.iter().copied()) {
            let problem = format!("has shape {:?}, config.json implies {shape:?}", view.shape);
            return Err(Error::tensor(view.path, name, problem));
        }
    }
    let computed = |name: &str| name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight";
    match source.weights.names().find(|name| !expected.contains(name) && !computed(name)) {
        None => Ok(()),
        Some(extra) => {
            Err(Error::tensor(&source.dir, extra, "is no part of a llama model as config.json describes it"))
        }
    }
}

/// Divisors of the rotary frequencies for rope type llama3 (Llama 3.1), one per pair of a head.
/// `low_freq_wavelen = original / low`, `high_freq_wavelen = original / high`, blended linearly in between.
fn rope_factors(config: &Config) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 { factor, low, high, original_context } = config.rope_scaling else { return None };
    let original = original_context as f64;
    let factor_of = |i: u64| {
        let frequency = config.rope_theta.powf(-(2.0 * i as f64) / config.head_dim as f64);
        let wavelength = 2.0 * std::f64::consts::PI / frequency;
        if wavelength < original / high {
            return 1.0;
        }
        if wavelength > original / low {
            return factor;
        }
        let smooth = (original / wavelength - low) / (high - low);
        1.0 / ((1.0 - smooth) / factor + smooth)
    };
    Some((0..config.head_dim / 2).map(|i| factor_of(i) as f32).collect())
}

/// The `llama.*` keys.
fn metadata(config: &Config) -> Metadata {
    let mut out = Metadata::new();
    // Every count is at most 2^24, so it fits.
    let mut count = |key: &str, value: u64| out.set(format!("llama.{key}"), value as u32);
    count("block_count", config.layers);
    count("context_length", config.context);
    count("embedding_length", config.hidden);
    count("feed_forward_length", config.intermediate);
    count("attention.head_count", config.heads);
    count("attention.head_count_kv", config.kv_heads);
    count("attention.key_length", config.head_dim);
    count("attention.value_length", config.head_dim);
    count("vocab_size", config.vocab_size);
    count("rope.dimension_count", config.head_dim);
    out.set("llama.attention.layer_norm_rms_epsilon", config.eps as f32);
    out.set("llama.rope.freq_base", config.rope_theta as f32);
    if let RopeScaling::Linear { factor } = config.rope_scaling {
        out.set("llama.rope.scaling.type", "linear");
        out.set("llama.rope.scaling.factor", factor as f32);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_interleaves_the_halves_of_each_head() {
        let rows: Vec<u64> = (0..8).map(|row| permuted_row(row, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
        let mut seen: Vec<u64> = (0..96).map(|row| permuted_row(row, 32)).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..96));
    }

    #[test]
    fn module_names_go_both_ways() {
        for (hf, gguf) in LINEAR {
            assert_eq!((linear_name(hf), module_name(gguf)), (Some(gguf), Some(hf)));
        }
        assert_eq!(linear_name("embed_tokens"), None);
    }
}
