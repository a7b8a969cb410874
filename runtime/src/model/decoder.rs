//! *The* forward: one decoder for all architectures, recorded once per plan.

use super::linear::{self, embedding, linear};
use super::{FeedForward, Layer, ModelConfig, Projections, Watches, Weights};
use crate::adapter::Sites;
use crate::gguf::OUTPUT;
use crate::ops::attention::{Heads, Qkv, attention, attention_paged};
use crate::ops::elementwise::{add, scale};
use crate::ops::glu::glu;
use crate::ops::noise::Noise;
use crate::ops::rmsnorm::rmsnorm;
use crate::ops::rope::{Rope, rope};
use crate::ops::softcap::softcap;
use crate::ops::{columns, kv_cache, rows};
use crate::plan::{Recorder, Tensor, View};

/// Keys and values of any number of sequences, in blocks that tables list. See [`loam_shaders::attention`].
#[derive(Debug, Clone, Copy)]
pub struct Paged<'a> {
    /// (keys, values) of each layer, each [blocks * BLOCK, kv_width].
    pub layers: &'a [(Tensor, Tensor)],
    /// Row of the cache for the keys and values of each token, `u32[T]`.
    pub places: View,
    /// The keys that each token sees, u32[T, 3].
    pub spans: View,
    /// Tables of blocks, u32[..].
    pub tables: View,
    /// All tokens are of different sequences.
    pub apart: bool,
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy)]
pub enum Keys<'a> {
    /// Those of its own row: `batch` rows of equal length, nothing before them (training, evaluation).
    Own {
        /// Rows.
        batch: usize,
        /// First key that each token sees, `u32[T]`.
        starts: View,
    },
    /// Those of its sequence in the cache, to which the new ones are appended (prefill, decode).
    Paged(Paged<'a>),
}

/// What a run is fed with; all lists have one entry per token.
#[derive(Debug, Clone, Copy)]
pub struct Inputs {
    /// Token ids, `u32[T]`.
    pub tokens: View,
    /// Positions and the rotation table.
    pub rope: Rope,
    /// The same for windowed layers.
    pub local_rope: Rope,
    /// Noise on each token's embedding.
    pub noise: Option<Noise>,
}

/// What a run of the model is recorded with.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// Hyper-parameters.
    pub config: &'a ModelConfig,
    /// Weights.
    pub weights: &'a Weights,
    /// What adapters do.
    pub sites: &'a Sites,
    /// The layers whose inputs are summed up.
    pub watches: Option<&'a Watches>,
    /// What the run is fed with.
    pub inputs: Inputs,
    /// Which keys a query sees.
    pub keys: Keys<'a>,
}

/// A layer and its place.
#[derive(Clone, Copy)]
struct Block<'a> {
    w: &'a Layer,
    index: usize,
}

impl Block<'_> {
    fn label(&self, suffix: &str) -> String {
        format!("blk.{}.{suffix}", self.index)
    }
}

/// Records the decoder: tokens -> hidden state after the last norm [T, D]. T is the length of `pass.inputs.tokens`.
pub fn forward<'a>(r: &mut Recorder<'a>, pass: Pass<'a>) -> Tensor {
    let Pass { config, weights, .. } = pass;
    let mut x = embedding(r, &pass); // [T, D]
    for (index, w) in weights.layers.iter().enumerate() {
        let b = Block { w, index };
        x = r.layer(x, move |r, x| layer(r, &pass, &b, x));
    }
    let hidden = rmsnorm(r, "output_norm.weight", x, weights.output_norm, config.rms_eps);
    // Scaled here, not after the head: the logits then come out of it as they are, for the loss as for samplers.
    scale(r, "logit_scale", hidden, config.logit_scale)
}

/// One layer: the residual stream [T, D] before it to that after it.
fn layer(r: &mut Recorder, c: &Pass<'_>, b: &Block<'_>, x: Tensor) -> Tensor {
    let a = attention_layer(r, c, b, x); // [T, D]
    let x = add(r, &b.label("attn_residual"), x, a);
    let f = feed_forward(r, c, b, x); // [T, D]
    add(r, &b.label("ffn_residual"), x, f)
}

/// Logits of the listed rows of a hidden state, written to `out` [list, V].
pub fn logits(r: &mut Recorder, pass: &Pass<'_>, hidden: Tensor, list: View, out: Tensor) {
    let x = rows::gather(r, "logits", list, 0, out.rows, hidden);
    linear::head_into(r, pass.sites.at(OUTPUT), x, &pass.weights.output, out);
    if let Some(cap) = pass.config.final_softcap {
        softcap(r, "logits", out, cap);
    }
}

/// Logits [n, V] of rows `x` [n, D] with a loss, which caps them itself; `first` such rows were before them.
pub fn loss_logits(r: &mut Recorder, pass: &Pass<'_>, x: Tensor, first: usize) -> Tensor {
    linear::head(r, &pass.sites.at_listed(OUTPUT, first), x, &pass.weights.output)
}

/// What attention adds to the residual stream `x`.
fn attention_layer(r: &mut Recorder, c: &Pass<'_>, b: &Block<'_>, x: Tensor) -> Tensor {
    let h = norm(r, c, b, "attn_norm", b.w.attn_norm, x); // [T, D]
    let Qkv { q, k, v } = projections(r, c, b, h); // [T, Hq * Dh], [T, Hk * Dh] twice
    let head_norms = b.w.head_norms.unzip();
    let q = norm(r, c, b, "attn_q_norm", head_norms.0, q);
    let k = norm(r, c, b, "attn_k_norm", head_norms.1, k);
    if c.config.rotates(b.index) {
        let windowed = c.config.window_of(b.index).is_some();
        let table = if windowed { c.inputs.local_rope } else { c.inputs.rope };
        rope(r, &b.label("rope_q"), q, c.config.heads, table);
        rope(r, &b.label("rope_k"), k, c.config.kv_heads, table);
    }
    let a = attend(r, c, b, Qkv { q, k, v }); // [T, Hq * Dh]
    let o = linear(r, c, a, &b.w.attn_output); // [T, D]
    let o = norm(r, c, b, "post_attention_norm", b.w.post_attention_norm, o);
    scale(r, &b.label("attn_scale"), o, c.config.residual_scale)
}

/// What the feed-forward layer adds to the residual stream `x`.
fn feed_forward(r: &mut Recorder, c: &Pass<'_>, b: &Block<'_>, x: Tensor) -> Tensor {
    let h = norm(r, c, b, "ffn_norm", b.w.ffn_norm, x);
    let glu = |r: &mut Recorder, gate, up| glu(r, &b.label("glu"), gate, up, c.config.activation);
    let y = match &b.w.ffn {
        FeedForward::Separate { gate, up, down } => {
            let (gate, up) = (linear(r, c, h, gate), linear(r, c, h, up)); // [T, F] each
            let g = glu(r, gate, up);
            linear(r, c, g, down)
        }
        FeedForward::Fused { up, down } => {
            let both = linear(r, c, h, up); // [T, 2 * F]
            let parts = columns::split(r, &b.label("ffn_up"), both, &[c.config.feed_forward; 2]);
            let g = glu(r, parts[0], parts[1]);
            linear(r, c, g, down)
        }
        FeedForward::Experts(experts) => {
            let logits = linear(r, c, h, &experts.router); // [T, E]
            experts.record(r, c, &|suffix| b.label(suffix), (h, logits), &glu)
        }
    }; // [T, D]
    let y = norm(r, c, b, "post_ffw_norm", b.w.post_ffw_norm, y);
    scale(r, &b.label("ffn_scale"), y, c.config.residual_scale)
}

/// Queries, keys and values of the normed input `h`.
fn projections(r: &mut Recorder, c: &Pass<'_>, b: &Block<'_>, h: Tensor) -> Qkv {
    match &b.w.attn_qkv {
        Projections::Separate { q, k, v } => {
            Qkv { q: linear(r, c, h, q), k: linear(r, c, h, k), v: linear(r, c, h, v) }
        }
        Projections::Fused(qkv) => {
            let (q_width, kv_width) = (c.config.q_width(), c.config.kv_width());
            let all = linear(r, c, h, qkv);
            let parts = columns::split(r, &b.label("attn_qkv"), all, &[q_width, kv_width, kv_width]);
            Qkv { q: parts[0], k: parts[1], v: parts[2] }
        }
    }
}

/// The norm of `x`, where the model has it, over rows as wide as its weight.
fn norm(r: &mut Recorder, c: &Pass<'_>, b: &Block<'_>, name: &str, weight: Option<Tensor>, x: Tensor) -> Tensor {
    match weight {
        Some(weight) => rmsnorm(r, &b.label(name), x, weight, c.config.rms_eps),
        None => x,
    }
}

fn attend(r: &mut Recorder, c: &Pass<'_>, b: &Block<'_>, qkv: Qkv) -> Tensor {
    let label = b.label("attention");
    let shape = |batch: usize| Heads {
        batch,
        heads: c.config.heads,
        kv_heads: c.config.kv_heads,
        head_dim: c.config.head_dim,
        window: c.config.window_of(b.index),
        scale: c.config.attention_scale,
        softcap: c.config.attention_softcap,
    };
    match c.keys {
        Keys::Own { batch, starts } => attention(r, &label, qkv, starts, shape(batch)),
        Keys::Paged(Paged { layers, places, spans, tables, apart }) => {
            let (keys, values) = layers[b.index];
            kv_cache::append(r, &label, qkv.k, places, keys);
            kv_cache::append(r, &label, qkv.v, places, values);
            attention_paged(r, &label, Qkv { q: qkv.q, k: keys, v: values }, (spans, tables), shape(1), apart)
        }
    }
}
