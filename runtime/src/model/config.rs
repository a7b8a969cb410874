//! Hyper-parameters from GGUF metadata, checked.

use super::arch;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};

/// Largest accepted values: a file cannot make loam allocate by its claims.
const MAX_LAYERS: u32 = 512;
const MAX_WIDTH: u32 = 1 << 20;
const MAX_CONTEXT: u32 = 1 << 24;
const MAX_HEAD_DIM: u32 = loam_shaders::attention::MAX_HEAD_DIM;

/// Activation of the gated feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// GELU with the tanh approximation.
    GeluTanh,
}

/// Everything the decoder needs to know about a model besides its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub embedding: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Values per head that are rotated.
    pub rotary: usize,
    /// 0: adjacent pairs, 1: halves.
    pub rope_style: u32,
    /// Base of the rotation frequencies.
    pub rope_base: f32,
    /// Positions are divided by this (`rope.scaling.type` = linear); 1 otherwise.
    pub rope_scale: f32,
    /// Added to the mean square in norms.
    pub rms_eps: f32,
    /// Context length that the model was trained for.
    pub context: usize,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Activation of the feed-forward layer.
    pub activation: Activation,
    /// q and k rows (and the B rows of their adapters) are permuted against Hugging Face's.
    pub permuted: bool,
}

impl ModelConfig {
    /// Reads and checks the metadata of a base.
    ///
    /// # Errors
    /// [`Error::Metadata`] naming the key that is missing or out of range.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let name = gguf.str("general.architecture")?;
        let Some(arch) = arch::find(name) else {
            let name = crate::gguf::printable(name.as_bytes());
            return Err(bad(gguf, "general.architecture", format!("{name} is not supported ({})", arch::names())));
        };
        let key = |suffix: &str| format!("{}.{suffix}", arch.name);
        let count = |suffix: &str, max: u32| in_range(gguf, &key(suffix), 1, max);
        let embedding = count("embedding_length", MAX_WIDTH)?;
        let heads = count("attention.head_count", MAX_WIDTH)?;
        let kv_heads = match gguf.opt_u32(&key("attention.head_count_kv"))? {
            Some(_) => count("attention.head_count_kv", heads as u32)?,
            None => heads,
        };
        let head_dim = head_dim(gguf, &key, embedding, heads)?;
        let rotary = match gguf.opt_u32(&key("rope.dimension_count"))? {
            Some(_) => count("rope.dimension_count", head_dim as u32)?,
            None => head_dim,
        };
        if !heads.is_multiple_of(kv_heads) {
            return Err(bad(
                gguf,
                &key("attention.head_count_kv"),
                format!("{kv_heads} does not divide {heads} heads"),
            ));
        }
        if !head_dim.is_multiple_of(4) {
            let problem = format!("heads of {head_dim} values: loam needs a multiple of 4");
            return Err(bad(gguf, &key("attention.head_count"), problem));
        }
        if !rotary.is_multiple_of(2) {
            return Err(bad(gguf, &key("rope.dimension_count"), format!("{rotary} is odd")));
        }
        Ok(Self {
            architecture: arch.name,
            layers: count("block_count", MAX_LAYERS)?,
            embedding,
            feed_forward: count("feed_forward_length", MAX_WIDTH)?,
            heads,
            kv_heads,
            head_dim,
            rotary,
            rope_style: arch.rope_style,
            rope_base: positive(gguf, &key("rope.freq_base"), Some(10_000.0))?,
            rope_scale: rope_scale(gguf, &key)?,
            rms_eps: positive(gguf, &key("attention.layer_norm_rms_epsilon"), None)?,
            context: count("context_length", MAX_CONTEXT)?,
            vocabulary: vocabulary(gguf, embedding)?,
            activation: Activation::Silu,
            permuted: arch.permuted,
        })
    }

    /// Width of the queries of all heads.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the keys (and of the values) of all heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

fn head_dim(gguf: &Gguf, key: &dyn Fn(&str) -> String, embedding: usize, heads: usize) -> Result<usize> {
    let name = key("attention.key_length");
    if gguf.opt_u32(&name)?.is_some() {
        let dim = in_range(gguf, &name, 1, MAX_HEAD_DIM)?;
        let value_key = key("attention.value_length");
        if gguf.opt_u32(&value_key)?.is_some_and(|v| v as usize != dim) {
            return Err(bad(gguf, &value_key, "differs from attention.key_length, which is not supported".into()));
        }
        return Ok(dim);
    }
    if !embedding.is_multiple_of(heads) || embedding / heads > MAX_HEAD_DIM as usize {
        let problem = format!("{heads} heads do not divide an embedding of {embedding}");
        return Err(bad(gguf, &key("attention.head_count"), problem));
    }
    Ok(embedding / heads)
}

fn rope_scale(gguf: &Gguf, key: &dyn Fn(&str) -> String) -> Result<f32> {
    let name = key("rope.scaling.type");
    match gguf.opt_str(&name)? {
        None | Some("none") => Ok(1.0),
        Some("linear") => positive(gguf, &key("rope.scaling.factor"), None),
        Some(other) => {
            let other = crate::gguf::printable(other.as_bytes());
            Err(bad(gguf, &name, format!("{other} is not supported (none, linear; llama3 comes as rope_freqs.weight)")))
        }
    }
}

/// The vocabulary is what the embedding has rows for; a token list of another length would index past it.
fn vocabulary(gguf: &Gguf, embedding: usize) -> Result<usize> {
    let info = gguf.tensor("token_embd.weight")?;
    let rows = match info.shape[..] {
        [width, rows] if width == embedding as u64 && rows <= u64::from(MAX_WIDTH) * 4 => rows as usize,
        _ => {
            let problem = format!("has shape {:?}, expected [{embedding}, vocabulary]", info.shape);
            return Err(gguf.tensor_error("token_embd.weight", problem));
        }
    };
    if let Some(Value::Array(tokens)) = gguf.metadata().get("tokenizer.ggml.tokens")
        && tokens.len() != rows
    {
        let tokens = tokens.len();
        let problem = format!("has {tokens} tokens, but token_embd.weight has {rows} rows");
        return Err(bad(gguf, "tokenizer.ggml.tokens", problem));
    }
    Ok(rows)
}

fn in_range(gguf: &Gguf, key: &str, min: u32, max: u32) -> Result<usize> {
    Ok(gguf.u32_in(key, min..=max)? as usize)
}

fn positive(gguf: &Gguf, key: &str, default: Option<f32>) -> Result<f32> {
    let value = match (gguf.opt_f32(key)?, default) {
        (Some(value), _) | (None, Some(value)) => value,
        (None, None) => gguf.f32(key)?,
    };
    if !(value.is_finite() && value > 0.0) {
        return Err(bad(gguf, key, format!("{value} is not a positive number")));
    }
    Ok(value)
}

fn bad(gguf: &Gguf, key: &str, problem: String) -> Error {
    gguf.metadata_error(key, problem)
}
