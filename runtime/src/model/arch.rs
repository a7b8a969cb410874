//! What differs between architectures and is not in the metadata. The only place that knows their names.
//!
//! Where llama.cpp's loader fixes a value instead of reading it (`src/llama-model.cpp`), it is fixed here too.

pub use loam_shaders::glu::Activation;
use loam_shaders::rope::Style;

/// Norms of queries and keys before they are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNorms {
    /// There are none.
    None,
    /// Each head by itself: weights of `head_dim` values.
    Each,
    /// All heads as one row: weights of `q_width` and `kv_width` values.
    Whole,
}

/// Which layers see only the keys inside of `attention.sliding_window`, where a file has that key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windowed {
    /// None: no reader looks at the key (llama.cpp does not window these architectures either).
    Never,
    /// Every layer.
    Always,
    /// All but each n-th (n - 1, 2n - 1, ...).
    AllBut(usize),
}

/// Rotation in windowed layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LocalRope {
    /// As in the others.
    Same,
    /// The base of the others, but positions are never scaled.
    Unscaled,
    /// This base where the file has no `rope.freq_base_swa`, and positions are never scaled.
    Base(f32),
}

/// Fixed properties of an architecture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Architecture {
    /// `general.architecture`, and the prefix of its metadata keys.
    pub name: &'static str,
    /// Which values of a head are rotated together: adjacent ones (ggml NORM) or halves (ggml NEOX).
    pub rope_style: Style,
    /// Whether the rows of q and k are permuted against Hugging Face's (adjacent pairs instead of halves), and rows of
    /// an adapter's B with them.
    pub permuted: bool,
    /// Activation of the feed-forward layer.
    pub activation: Activation,
    /// Norms before attention and feed-forward layer (`attn_norm`, `ffn_norm`).
    pub pre_norms: bool,
    /// Norms of their results (`post_attention_norm`, `post_ffw_norm`).
    pub post_norms: bool,
    /// Norms of queries and keys.
    pub head_norms: HeadNorms,
    /// Whether q, k and v must have biases; elsewhere a bias is used where the file has one.
    pub biased: bool,
    /// Whether q, k and v are one matrix (`attn_qkv`), and gate and up projections too (`ffn_up`, gate rows first).
    pub fused: bool,
    /// Whether every feed-forward layer is a router and experts, whose chosen weights add up to 1.
    pub experts: bool,
    /// Which layers have a sliding window.
    pub windowed: Windowed,
    /// The window where the file does not say.
    pub window: Option<u32>,
    /// Rotation in windowed layers.
    pub local_rope: LocalRope,
    /// Each n-th layer (n - 1, 2n - 1, ...) does not rotate, where there are such layers.
    pub no_rope_step: Option<usize>,
    /// Embeddings are multiplied with the root of their width.
    pub scaled_embedding: bool,
    /// Cap of attention scores where the file does not say.
    pub attention_softcap: Option<f32>,
    /// Cap of logits where the file does not say.
    pub final_softcap: Option<f32>,
    /// With this many layers attention scores are divided by the root of width / heads instead of `head_dim`: models
    /// whose query_pre_attn_scalar is no key of the file.
    pub wide_score_layers: Option<usize>,
}

const LLAMA: Architecture = Architecture {
    name: "llama",
    rope_style: Style::Adjacent,
    permuted: true,
    activation: Activation::Silu,
    pre_norms: true,
    post_norms: false,
    head_norms: HeadNorms::None,
    biased: false,
    fused: false,
    experts: false,
    windowed: Windowed::Never,
    window: None,
    local_rope: LocalRope::Same,
    no_rope_step: None,
    scaled_embedding: false,
    attention_softcap: None,
    final_softcap: None,
    wide_score_layers: None,
};

/// Llama with halves rotated: rows as in Hugging Face's checkpoints.
const HALVED: Architecture = Architecture { rope_style: Style::Halves, permuted: false, ..LLAMA };

const GEMMA: Architecture =
    Architecture { activation: Activation::GeluTanh, post_norms: true, scaled_embedding: true, ..HALVED };

const TABLE: &[Architecture] = &[
    // Unlike llama.cpp, which never writes this key for Mistral, and like Transformers.
    Architecture { windowed: Windowed::Always, ..LLAMA },
    Architecture { name: "smollm3", no_rope_step: Some(4), ..LLAMA },
    Architecture { name: "granite", ..LLAMA },
    Architecture { name: "mistral3", ..LLAMA },
    Architecture { name: "qwen2", biased: true, ..HALVED },
    Architecture { name: "qwen3", head_norms: HeadNorms::Each, ..HALVED },
    Architecture { name: "qwen3moe", head_norms: HeadNorms::Each, experts: true, ..HALVED },
    Architecture {
        name: "olmo2",
        pre_norms: false,
        post_norms: true,
        head_norms: HeadNorms::Whole,
        windowed: Windowed::AllBut(4),
        local_rope: LocalRope::Unscaled,
        ..HALVED
    },
    // Unlike llama.cpp, which has switched phi3's window off, and like Transformers.
    Architecture { name: "phi3", fused: true, windowed: Windowed::Always, ..HALVED },
    Architecture {
        name: "gemma2",
        windowed: Windowed::AllBut(2),
        window: Some(4096),
        attention_softcap: Some(50.0),
        final_softcap: Some(30.0),
        wide_score_layers: Some(46),
        ..GEMMA
    },
    Architecture {
        name: "gemma3",
        head_norms: HeadNorms::Each,
        windowed: Windowed::AllBut(6),
        local_rope: LocalRope::Base(10_000.0),
        wide_score_layers: Some(62),
        ..GEMMA
    },
];

/// The architecture called `name`.
pub fn find(name: &str) -> Option<&'static Architecture> {
    TABLE.iter().find(|a| a.name == name)
}

/// Names of all supported architectures, for error messages.
pub fn names() -> String {
    TABLE.iter().map(|a| a.name).collect::<Vec<_>>().join(", ")
}
