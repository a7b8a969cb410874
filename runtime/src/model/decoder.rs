//! *The* forward: one decoder for all architectures, recorded once per plan.

use super::{Activation, Layer, ModelConfig, Weight, Weights};
use crate::adapter::Sites;
use crate::ops::attention::{Heads, attention};
use crate::ops::dense::{add_bias, low_rank};
use crate::ops::elementwise::add;
use crate::ops::embed::embed;
use crate::ops::glu::glu;
use crate::ops::matmul::{self, matmul};
use crate::ops::rmsnorm::rmsnorm;
use crate::ops::rope::{Rope, rope};
use crate::ops::{kv_cache, rows};
use crate::plan::{Recorder, Tensor, View};

/// Keys and values of past tokens, one pair per layer.
#[derive(Debug, Clone)]
pub struct Cache {
    /// (keys, values) of each layer, each [capacity, kv_width].
    pub layers: Vec<(Tensor, Tensor)>,
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy)]
pub enum Keys<'a> {
    /// Those of its own row: `batch` rows of equal length, nothing before them (training, evaluation).
    Own {
        /// Rows.
        batch: usize,
    },
    /// Those in the cache, to which the new ones are appended (prefill, decode; one row).
    Cached(&'a Cache),
}

/// What a run is fed with; all lists have one entry per token.
#[derive(Debug, Clone, Copy)]
pub struct Inputs {
    /// Token ids, u32[T].
    pub tokens: View,
    /// First key that each token sees, u32[T].
    pub starts: View,
    /// Positions and the rotation table.
    pub rope: Rope,
}

/// What every layer needs.
struct Context<'a> {
    config: &'a ModelConfig,
    sites: &'a Sites,
    io: &'a Inputs,
    keys: Keys<'a>,
}

/// Records the decoder: tokens -> hidden state after the last norm [T, D]. T is the length of `io.tokens`.
pub fn forward(
    r: &mut Recorder,
    config: &ModelConfig,
    weights: &Weights,
    sites: &Sites,
    io: &Inputs,
    keys: Keys<'_>,
) -> Tensor {
    let context = Context { config, sites, io, keys };
    let mut x = embed(r, io.tokens, &weights.token_embd, 1.0); // [T, D]
    for (index, layer) in weights.layers.iter().enumerate() {
        x = block(r, &context, layer, index, x);
    }
    rmsnorm(r, "output_norm.weight", x, weights.output_norm, config.rms_eps)
}

/// Logits of the listed rows of a hidden state, written to `out` [list, V].
pub fn logits(r: &mut Recorder, hidden: Tensor, list: View, head: &Weight, out: Tensor) {
    let x = rows::gather(r, "logits", list, 0, out.rows, hidden);
    matmul::forward(r, x, head, out);
}

fn block(r: &mut Recorder, c: &Context<'_>, w: &Layer, index: usize, x: Tensor) -> Tensor {
    let name = |suffix: &str| format!("blk.{index}.{suffix}");
    let h = rmsnorm(r, &name("attn_norm"), x, w.attn_norm, c.config.rms_eps); // [T, D]
    let q = linear(r, c, h, &w.attn_q); // [T, Hq * Dh]
    let k = linear(r, c, h, &w.attn_k); // [T, Hk * Dh]
    let v = linear(r, c, h, &w.attn_v); // [T, Hk * Dh]
    rope(r, &name("rope_q"), q, c.config.heads, c.io.rope);
    rope(r, &name("rope_k"), k, c.config.kv_heads, c.io.rope);
    let a = attend(r, c, &name("attention"), (q, k, v), index); // [T, Hq * Dh]
    let o = linear(r, c, a, &w.attn_output); // [T, D]
    let x = add(r, &name("attn_residual"), x, o);
    let h = rmsnorm(r, &name("ffn_norm"), x, w.ffn_norm, c.config.rms_eps);
    let (gate, up) = (linear(r, c, h, &w.ffn_gate), linear(r, c, h, &w.ffn_up)); // [T, F] each
    let activation = match c.config.activation {
        Activation::Silu => 0,
        Activation::GeluTanh => 1,
    };
    let g = glu(r, &name("glu"), gate, up, activation); // [T, F]
    let down = linear(r, c, g, &w.ffn_down); // [T, D]
    add(r, &name("ffn_residual"), x, down)
}

fn attend(r: &mut Recorder, c: &Context<'_>, label: &str, (q, k, v): (Tensor, Tensor, Tensor), index: usize) -> Tensor {
    let shape = |batch: usize| Heads {
        batch,
        heads: c.config.heads,
        kv_heads: c.config.kv_heads,
        head_dim: c.config.head_dim,
        window: 0,
        scale: 1.0 / (c.config.head_dim as f32).sqrt(),
        softcap: 0.0,
    };
    match c.keys {
        Keys::Own { batch } => attention(r, label, (q, k, v), c.io.starts, shape(batch)),
        Keys::Cached(cache) => {
            let (keys, values) = cache.layers[index];
            kv_cache::append(r, label, k, keys);
            kv_cache::append(r, label, v, values);
            attention(r, label, (q, keys, values), c.io.starts, shape(1))
        }
    }
}

/// y = x Wᵀ plus the bias, if there is one, plus every adapter's update on it: the only place where low-rank adapters touch the model.
fn linear(r: &mut Recorder, c: &Context<'_>, x: Tensor, w: &Weight) -> Tensor {
    let y = matmul(r, x, w);
    if let Some((bias, one)) = w.bias {
        add_bias(r, &w.name, bias, one, y);
    }
    for site in c.sites.of(&w.name) {
        low_rank(r, &w.name, x, y, *site);
    }
    y
}
