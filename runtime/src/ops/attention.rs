//! Causal attention over the keys of the same rows (training) or of a cache (generation).

use loam_shaders::attention::{self as kernels, Params};

use crate::plan::{Recorder, Tensor, View};

/// Shape of an attention.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Sequences in the batch.
    pub batch: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// How many keys a query sees at most, its own included; without, all.
    pub window: Option<usize>,
    /// Factor on q·k, as a rule 1 / sqrt(head_dim).
    pub scale: f32,
    /// Scores are cap * tanh(scale * q·k / cap) (Gemma 2).
    pub softcap: Option<f32>,
}

/// Queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub struct Qkv {
    /// Queries.
    pub q: Tensor,
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
}

/// softmax(scale * q kᵀ) v per head, causal (Vaswani et al. 2017), computed in tiles with a saved log-sum-exp
/// (Dao et al. 2022): no T x T buffer exists, forward or backward.
///
/// q [batch * T, heads * head_dim]; k and v [batch * T, kv_heads * head_dim]; `starts` u32[batch * T] is the first
/// key that a query sees.
pub fn attention(r: &mut Recorder, label: &str, qkv: Qkv, starts: View, shape: Heads) -> Tensor {
    let Qkv { q, k, v } = qkv;
    let out = r.temporary(q.rows, q.cols);
    let stats = r.temporary(q.rows, shape.heads * 2);
    let params = params(q, shape);
    let (qv, kv, vv) = (q.view(), k.view(), v.view());
    r.call(label, kernels::forward(params), &[qv, kv, vv, starts, out.view(), stats.view()]);
    if [q, k, v].into_iter().any(|x| r.needs_gradient(x)) {
        let label = label.to_owned();
        r.backward(out, move |r, g| {
            let Some(dout) = g.take(out) else { return };
            let (dv, sv) = (dout.view(), stats.view());
            r.call(&label, kernels::backward_prepare(params), &[dv, out.view(), sv]);
            let dq = r.temporary(q.rows, q.cols);
            r.call(&label, kernels::backward_q(params), &[qv, kv, vv, starts, dv, sv, dq.view()]);
            let (dk, dval) = (r.temporary(k.rows, k.cols), r.temporary(v.rows, v.cols));
            r.call(&label, kernels::backward_kv(params), &[qv, kv, vv, starts, dv, sv, dk.view(), dval.view()]);
            for (x, dx) in [(q, dq), (k, dk), (v, dval)] {
                if r.needs_gradient(x) {
                    g.give(r, x, dx);
                }
            }
        });
    }
    out
}

/// The same over keys and values in blocks, for a run of any number of sequences, without a gradient.
///
/// q [T, heads * head_dim]; k and v [blocks * BLOCK, kv_heads * head_dim]; `spans` u32[T, 3] and `tables` as
/// [`kernels::forward_paged`] has them. `apart`: queries share no keys.
pub fn attention_paged(
    r: &mut Recorder,
    label: &str,
    qkv: Qkv,
    (spans, tables): (View, View),
    shape: Heads,
    apart: bool,
) -> Tensor {
    let Qkv { q, k, v } = qkv;
    let out = r.temporary(q.rows, q.cols);
    let call = kernels::forward_paged(params(q, shape), apart);
    r.call(label, call, &[q.view(), k.view(), v.view(), spans, tables, out.view()]);
    out
}

fn params(q: Tensor, shape: Heads) -> Params {
    Params {
        batch: shape.batch as u32,
        queries: (q.rows / shape.batch) as u32,
        heads: shape.heads as u32,
        kv_heads: shape.kv_heads as u32,
        head_dim: shape.head_dim as u32,
        window: shape.window.unwrap_or(0) as u32,
        scale: shape.scale,
        softcap: shape.softcap.unwrap_or(0.0),
    }
}
