//! Hyper-parameters from GGUF metadata, checked.

use loam_shaders::rope::Style;

use super::arch::{self, Activation, Architecture, HeadNorms, Windowed};
use super::fields::Fields;
use super::moe::ExpertsConfig;
use super::rope::RopeConfig;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};

/// Largest accepted values: a file cannot make loam allocate by its claims.
const MAX_LAYERS: u32 = 512;
const MAX_WIDTH: u32 = 1 << 20;
const MAX_CONTEXT: u32 = 1 << 24;
const MAX_HEAD_DIM: u32 = loam_shaders::attention::MAX_HEAD_DIM;

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
    /// Which values of a head are rotated together.
    pub rope_style: Style,
    /// Rotation of layers that see all keys.
    pub rope: RopeConfig,
    /// Rotation of windowed layers, where it differs.
    pub local_rope: Option<RopeConfig>,
    /// Each n-th layer (n - 1, 2n - 1, ...) does not rotate, where there are such layers.
    pub no_rope_step: Option<usize>,
    /// Keys that a query of a windowed layer sees, its own included, where layers are windowed.
    pub window: Option<usize>,
    /// Which layers are windowed.
    pub windowed: Windowed,
    /// Added to the mean square in norms.
    pub rms_eps: f32,
    /// Context length that the model was trained for.
    pub context: usize,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Activation of the feed-forward layer.
    pub activation: Activation,
    /// Norms before attention and feed-forward layer.
    pub pre_norms: bool,
    /// Norms of their results.
    pub post_norms: bool,
    /// Norms of queries and keys.
    pub head_norms: HeadNorms,
    /// q, k and v must have biases.
    pub biased: bool,
    /// q, k and v are one matrix, gate and up projections too.
    pub fused: bool,
    /// The experts that feed-forward layers are made of, if they are.
    pub experts: Option<ExpertsConfig>,
    /// Factor on embeddings.
    pub embedding_scale: f32,
    /// Factor on what attention and feed-forward layer add to the residual stream.
    pub residual_scale: f32,
    /// Factor on the hidden state before the head.
    pub logit_scale: f32,
    /// Factor on attention scores.
    pub attention_scale: f32,
    /// Attention scores s become cap * tanh(s / cap).
    pub attention_softcap: Option<f32>,
    /// Logits l become cap * tanh(l / cap).
    pub final_softcap: Option<f32>,
    /// q and k rows (and the B rows of their adapters) are permuted against Hugging Face's.
    pub permuted: bool,
}

impl ModelConfig {
    /// Reads and checks the metadata of a base.
    ///
    /// # Errors
    /// [`crate::Error::File`] naming the key that is missing or out of range.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let key = "general.architecture";
        let name = gguf.str(key)?;
        let Some(arch) = arch::find(name) else {
            let name = crate::gguf::printable(name.as_bytes());
            return Err(gguf.metadata_error(key, format!("{name} is not supported ({})", arch::names())).into());
        };
        Self::read(&Fields { gguf, prefix: arch.name }, arch)
    }

    fn read(fields: &Fields<'_>, arch: &Architecture) -> Result<Self> {
        let embedding = fields.count("embedding_length", MAX_WIDTH)?;
        let layers = fields.count("block_count", MAX_LAYERS)?;
        let HeadCounts { heads, kv_heads, head_dim } = HeadCounts::read(fields, embedding)?;
        let context = fields.count("context_length", MAX_CONTEXT)?;
        let rope = RopeConfig::read(fields, arch, context, rotary(fields, head_dim)?)?;
        let (window, windowed) = window(fields, arch)?;
        refuse_temperature(fields)?;
        // As llama.cpp has it: what a file cannot say follows from the number of layers.
        let score_width = if Some(layers) == arch.wide_score_layers { embedding / heads } else { head_dim };
        let scale =
            |suffix: &str, default: f32| -> Result<f32> { Ok(fields.positive_or_zero(suffix)?.unwrap_or(default)) };
        // A cap of 0 is none, also where the architecture has one.
        let cap = |suffix: &str, default: Option<f32>| match fields.gguf.opt_f32(&fields.key(suffix))? {
            None => Ok(default),
            Some(_) => fields.positive_or_zero(suffix).map(|cap| cap.filter(|&cap| cap > 0.0)),
        };
        Ok(Self {
            architecture: arch.name,
            layers,
            embedding,
            feed_forward: fields.count("feed_forward_length", MAX_WIDTH)?,
            heads,
            kv_heads,
            head_dim,
            rope_style: arch.rope_style,
            rope,
            local_rope: if window.is_none() { None } else { rope.local(fields, arch)? },
            no_rope_step: arch.no_rope_step,
            window,
            windowed,
            rms_eps: fields.positive("attention.layer_norm_rms_epsilon")?,
            context,
            vocabulary: vocabulary(fields, embedding)?,
            activation: arch.activation,
            pre_norms: arch.pre_norms,
            post_norms: arch.post_norms,
            head_norms: arch.head_norms,
            biased: arch.biased,
            fused: arch.fused,
            experts: if arch.experts { Some(ExpertsConfig::read(fields, MAX_WIDTH)?) } else { None },
            embedding_scale: scale(
                "embedding_scale",
                if arch.scaled_embedding { (embedding as f32).sqrt() } else { 1.0 },
            )?,
            residual_scale: scale("residual_scale", 1.0)?,
            logit_scale: 1.0 / scale("logit_scale", 1.0)?,
            attention_scale: scale("attention.scale", 1.0 / (score_width as f32).sqrt())?,
            attention_softcap: cap("attn_logit_softcapping", arch.attention_softcap)?,
            final_softcap: cap("final_logit_softcapping", arch.final_softcap)?,
            permuted: arch.permuted,
        })
    }

    /// Checks that the model has all of `tokens`.
    ///
    /// # Errors
    /// [`Error::Argument`] that names the first one that it does not have.
    pub fn check_tokens<'a>(&self, tokens: impl IntoIterator<Item = &'a u32>) -> Result<()> {
        match tokens.into_iter().find(|&&id| id as usize >= self.vocabulary) {
            None => Ok(()),
            Some(id) => Err(Error::Argument(format!("token {id} is outside the vocabulary of {}", self.vocabulary))),
        }
    }

    /// Width of the queries of all heads.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the keys (and of the values) of all heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// How many keys a query of layer `index` sees at most, where that is limited.
    pub fn window_of(&self, index: usize) -> Option<usize> {
        let windowed = match self.windowed {
            Windowed::Never => false,
            Windowed::Always => true,
            Windowed::AllBut(n) => index % n < n - 1,
        };
        self.window.filter(|_| windowed)
    }

    /// Whether layer `index` rotates queries and keys.
    pub fn rotates(&self, index: usize) -> bool {
        self.no_rope_step.is_none_or(|step| !(index + 1).is_multiple_of(step))
    }
}

/// How attention is divided.
struct HeadCounts {
    /// Query heads.
    heads: usize,
    /// Key and value heads; divides `heads`.
    kv_heads: usize,
    /// Values per head.
    head_dim: usize,
}

impl HeadCounts {
    fn read(fields: &Fields<'_>, embedding: usize) -> Result<Self> {
        let heads = fields.count("attention.head_count", MAX_WIDTH)?;
        let kv_heads = fields.opt_count("attention.head_count_kv", heads as u32)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(fields.bad("attention.head_count_kv", format!("{kv_heads} does not divide {heads} heads")));
        }
        let head_dim = match fields.opt_count("attention.key_length", MAX_HEAD_DIM)? {
            Some(dim) => dim,
            None if embedding.is_multiple_of(heads) && embedding / heads <= MAX_HEAD_DIM as usize => embedding / heads,
            None => {
                let problem = format!("{heads} heads do not divide an embedding of {embedding}");
                return Err(fields.bad("attention.head_count", problem));
            }
        };
        if fields.opt_count("attention.value_length", MAX_WIDTH)?.is_some_and(|v| v != head_dim) {
            let problem = "differs from attention.key_length, which is not supported";
            return Err(fields.bad("attention.value_length", problem.into()));
        }
        if !head_dim.is_multiple_of(4) {
            let problem = format!("heads of {head_dim} values: loam needs a multiple of 4");
            return Err(fields.bad("attention.head_count", problem));
        }
        Ok(Self { heads, kv_heads, head_dim })
    }
}

/// Values per head that are rotated.
fn rotary(fields: &Fields<'_>, head_dim: usize) -> Result<usize> {
    let suffix = "rope.dimension_count";
    let rotary = fields.opt_count(suffix, head_dim as u32)?.unwrap_or(head_dim);
    if !rotary.is_multiple_of(2) {
        return Err(fields.bad(suffix, format!("{rotary} is odd")));
    }
    Ok(rotary)
}

/// Scores that grow with the position (Ministral 3) are not computed.
fn refuse_temperature(fields: &Fields<'_>) -> Result<()> {
    let suffix = "attention.temperature_scale";
    match fields.gguf.opt_f32(&fields.key(suffix))? {
        Some(scale) if scale != 0.0 => Err(fields.bad(suffix, format!("{scale} is not supported, only 0"))),
        _ => Ok(()),
    }
}

/// The window, where there is one, and the layers that have it.
fn window(fields: &Fields<'_>, arch: &Architecture) -> Result<(Option<usize>, Windowed)> {
    if arch.windowed == Windowed::Never {
        return Ok((None, Windowed::Never));
    }
    // In files 0 stands for "no window" (phi-4).
    let window = fields.gguf.opt_u32(&fields.key("attention.sliding_window"))?.or(arch.window);
    let window = window.filter(|&window| window > 0).map(|window| window.min(MAX_CONTEXT) as usize);
    let step = fields.opt_count("attention.sliding_window_pattern", MAX_LAYERS)?;
    let windowed = match (arch.windowed, step) {
        (Windowed::AllBut(_), Some(step)) => Windowed::AllBut(step),
        (windowed, _) => windowed,
    };
    Ok((window, windowed))
}

/// The vocabulary is what the embedding has rows for; a token list of another length would index past it.
fn vocabulary(fields: &Fields<'_>, embedding: usize) -> Result<usize> {
    let gguf = fields.gguf;
    let info = gguf.tensor("token_embd.weight")?;
    let rows = match info.shape[..] {
        [width, rows] if width == embedding as u64 && rows <= u64::from(MAX_WIDTH) * 4 => rows as usize,
        _ => {
            let problem = format!("has shape {:?}, expected [{embedding}, vocabulary]", info.shape);
            return Err(gguf.tensor_error("token_embd.weight", problem).into());
        }
    };
    if let Some(Value::Array(tokens)) = gguf.metadata().get("tokenizer.ggml.tokens")
        && tokens.len() != rows
    {
        let tokens = tokens.len();
        let problem = format!("has {tokens} tokens, but token_embd.weight has {rows} rows");
        return Err(gguf.metadata_error("tokenizer.ggml.tokens", problem).into());
    }
    Ok(rows)
}
