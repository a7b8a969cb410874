//! What a family of models is made of: plain data, shared by the converter and the adapters.

use loam_files::gguf::Metadata;

use super::Config;
use crate::Result;

/// A dimension of a tensor, in terms of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// The residual stream.
    Hidden,
    /// One head.
    HeadDim,
    /// All query heads.
    Queries,
    /// All key heads, or all value heads.
    Keys,
    /// Queries, keys and values one after the other.
    QueriesKeysValues,
    /// The feed-forward layer.
    Intermediate,
    /// Gate and up projection one after the other.
    GateUp,
    /// One value per expert.
    Experts,
}

/// When a linear layer has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// Never.
    Never,
    /// Always.
    Always,
    /// If config.json says `attention_bias`.
    Attention,
    /// If config.json says `mlp_bias`.
    FeedForward,
}

/// A linear layer of every block: W [outer, inner].
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    /// Hugging Face name after `model.layers.N.`.
    pub hf: &'static str,
    /// GGUF name after `blk.N.`.
    pub gguf: &'static str,
    /// Input features.
    pub inner: Width,
    /// Output features.
    pub outer: Width,
    /// Whether there is a bias.
    pub bias: Bias,
}

/// A norm of every block: Hugging Face name, GGUF name, length.
pub type Norm = (&'static str, &'static str, Width);

/// One family of models: everything that sets it apart.
#[derive(Debug)]
pub struct Family {
    /// `general.architecture`, and the prefix of its metadata keys.
    pub architecture: &'static str,
    /// Names in `architectures` of config.json.
    pub classes: &'static [&'static str],
    /// `model_type` of config.json, for configurations without `architectures`.
    pub model_types: &'static [&'static str],
    /// Norms of a block.
    pub norms: &'static [Norm],
    /// Linear layers of a block, in groups that families share.
    pub linears: &'static [&'static [Linear]],
    /// The feed-forward layer is a mixture of experts ([`super::experts`]).
    pub experts: bool,
    /// Added to every norm: Gemma stores its norms less one.
    pub norm_plus: f32,
    /// Rows of q and k are reordered ([`super::permuted_row`]): ggml rotates adjacent pairs of a head, Transformers
    /// halves.
    pub permuted: bool,
    /// The head is the embedding where config.json does not tell.
    pub tied: bool,
    /// What becomes of the head of a tied model.
    pub head: Head,
    /// Field of config.json that names the activation, and the only value that the family computes with.
    pub activation: (&'static str, &'static str),
    /// Kinds of rope scaling that a stock llama.cpp applies for this architecture, as `rope_type` names them.
    pub rope_types: &'static [&'static str],
    /// Layers with a window are rotated by settings of their own.
    pub local_rope: bool,
    /// Names in `architectures`, or in `model_type`, of models that keep their text part in `text_config`.
    pub composite: &'static [&'static str],
    /// Whether only a part of each head may be rotated (`partial_rotary_factor`).
    pub partial_rotary: bool,
    /// Which models of 80 layers llama-quantize takes for a "70B", whose values get more bits.
    pub seventy_billion: SeventyBillion,
    /// Values of fields that published configurations leave out.
    pub defaults: &'static [(&'static str, f64)],
    /// Keys of [`Family::extras`], less the architecture, that loam follows as Transformers do and a stock llama.cpp
    /// does not.
    pub unread: &'static [&'static str],
    /// The keys that only this family has, and a refusal of what it cannot express.
    pub extras: fn(&Config, &mut Metadata) -> Result<()>,
}

/// Which models of 80 layers llama-quantize takes for a "70B" (`llm_type` in llama.cpp).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeventyBillion {
    /// None.
    Never,
    /// Those whose heads share keys and values, unless they have eight experts.
    Grouped,
    /// All.
    Always,
}

impl SeventyBillion {
    /// Whether a model of `layers` layers with these heads and experts is one.
    pub fn holds(self, layers: u64, (heads, kv_heads): (u64, u64), experts: u64) -> bool {
        layers == 80
            && match self {
                SeventyBillion::Never => false,
                SeventyBillion::Grouped => experts != 8 && heads != kv_heads,
                SeventyBillion::Always => true,
            }
    }
}

/// What llama.cpp expects of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Left out if it is the embedding.
    Optional,
    /// Never there: it is always the embedding.
    Never,
    /// Always there: a tied model gets a copy of the embedding.
    Always,
}

impl Family {
    /// All linear layers of a block.
    pub fn linears(&self) -> impl Iterator<Item = &'static Linear> {
        self.linears.iter().flat_map(|group| group.iter())
    }

    /// GGUF name of a linear layer such as `self_attn.q_proj`.
    pub fn linear_name(&self, hf: &str) -> Option<&'static str> {
        self.linears().find(|linear| linear.hf == hf).map(|linear| linear.gguf)
    }

    /// The inverse of [`Family::linear_name`].
    pub fn module_name(&self, gguf: &str) -> Option<&'static str> {
        self.linears().find(|linear| linear.gguf == gguf).map(|linear| linear.hf)
    }

    /// Whether the rows of the layer `attn_q`, say, are reordered.
    pub fn permutes(&self, gguf: &str) -> bool {
        self.permuted && (gguf == "attn_q" || gguf == "attn_k")
    }
}

/// A linear layer of a table.
pub const fn linear(hf: &'static str, gguf: &'static str, inner: Width, outer: Width, bias: Bias) -> Linear {
    Linear { hf, gguf, inner, outer, bias }
}

/// Query, key and value projections.
pub const QUERIES_KEYS_VALUES: [Linear; 3] = [
    linear("self_attn.q_proj", "attn_q", Width::Hidden, Width::Queries, Bias::Attention),
    linear("self_attn.k_proj", "attn_k", Width::Hidden, Width::Keys, Bias::Attention),
    linear("self_attn.v_proj", "attn_v", Width::Hidden, Width::Keys, Bias::Attention),
];

/// The output projection of the attention.
pub const ATTENTION_OUTPUT: [Linear; 1] =
    [linear("self_attn.o_proj", "attn_output", Width::Queries, Width::Hidden, Bias::Attention)];

/// The gated feed-forward layer.
pub const FEED_FORWARD: [Linear; 3] = [
    linear("mlp.gate_proj", "ffn_gate", Width::Hidden, Width::Intermediate, Bias::FeedForward),
    linear("mlp.up_proj", "ffn_up", Width::Hidden, Width::Intermediate, Bias::FeedForward),
    linear("mlp.down_proj", "ffn_down", Width::Intermediate, Width::Hidden, Bias::FeedForward),
];

/// Norms before attention and feed-forward layer.
pub const PRE_NORMS: [Norm; 2] =
    [("input_layernorm", "attn_norm", Width::Hidden), ("post_attention_layernorm", "ffn_norm", Width::Hidden)];

/// [`PRE_NORMS`] and one for each query and key head.
pub const PRE_AND_HEAD_NORMS: [Norm; 4] = [
    PRE_NORMS[0],
    PRE_NORMS[1],
    ("self_attn.q_norm", "attn_q_norm", Width::HeadDim),
    ("self_attn.k_norm", "attn_k_norm", Width::HeadDim),
];

/// A family as most are: what a table does not mention is as in Llama.
pub const PLAIN: Family = Family {
    architecture: "",
    classes: &[],
    model_types: &[],
    norms: &PRE_NORMS,
    linears: &[&QUERIES_KEYS_VALUES, &ATTENTION_OUTPUT, &FEED_FORWARD],
    experts: false,
    norm_plus: 0.0,
    permuted: false,
    tied: false,
    head: Head::Optional,
    activation: ("hidden_act", "silu"),
    rope_types: &["linear", "yarn"],
    local_rope: false,
    composite: &[],
    partial_rotary: false,
    seventy_billion: SeventyBillion::Never,
    defaults: &[],
    unread: &[],
    extras: |_, _| Ok(()),
};
