//! Causal attention over grouped query heads, flash style (Dao 2023): no buffer of queries x keys exists.
//!
//! Own keys ([`forward`], in training): query `i` of batch `b` sees keys `starts[b, i] <= j <= i` of the same batch,
//! with a sliding window also `j > i - window`. `starts` keeps packed conversations apart.
//!
//! Paged keys ([`forward_paged`], in generation): a run has queries of any number of sequences, those of each side by
//! side. Each query has a span of keys and the table of its sequence, which lists the blocks of [`BLOCK`] keys that
//! hold them (Kwon et al. 2023).
//!
//! A query that sees no key gives zeros. Query head `h` reads key/value head `h / (heads / kv_heads)`.
//!
//! The score of a query and a key is `S = scale * q k`, with a soft cap (Gemma 2) `cap * tanh(scale * q k / cap)`.
//!
//! Backward recomputes the probabilities from the log-sum-exp that `forward` left in `stats[.., 0]`: `P = exp(S -
//! lse)`, `dS = P * (dout v - delta) * scale * (1 - (S / cap)^2)` with `delta = rowsum(dout * out)` in `stats[.., 1]`,
//! `dq = dS k`, `dk = dS^T q`, `dv = P^T dout`. `backward_q` owns query rows and `backward_kv` key rows, so nothing is
//! added from two workgroups.

mod cpu;
mod reference;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Call, Kernel, Layout, fold_elements, layout};
use crate::source;

/// Uniform of all kernels of this op.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Sequences with own keys; 1 for paged ones.
    pub batch: u32,
    /// Queries per sequence; with paged keys all of them.
    pub queries: u32,
    /// Query heads, a multiple of `kv_heads`.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Dimensions of a head: a multiple of 4, at most [`MAX_HEAD_DIM`].
    pub head_dim: u32,
    /// How many keys a query sees at most, its own included; 0: no limit.
    pub window: u32,
    /// Factor on `q k`, as a rule `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Scores are `softcap * tanh(scale * q k / softcap)`; 0: no cap.
    pub softcap: f32,
}

/// Keys of a block.
pub const BLOCK: usize = 32;

/// Largest head dimension that the kernels take.
pub const MAX_HEAD_DIM: u32 = 256;
/// Queries (`backward_kv`: keys) that a workgroup of the tiled kernels owns.
const TILE: u32 = 32;
/// Padded head dimensions of the variants, and workgroups that share a tile of `backward_kv` in each (`PARTS`).
const VARIANTS: [(u32, u32); 3] = [(64, 1), (128, 1), (MAX_HEAD_DIM, 2)];

static VECTOR: [Kernel; 3] = [
    Kernel::new(&source::ATTENTION_VECTOR_64, reference::forward_paged).with_cpu(cpu::forward_paged),
    Kernel::new(&source::ATTENTION_VECTOR_128, reference::forward_paged).with_cpu(cpu::forward_paged),
    Kernel::new(&source::ATTENTION_VECTOR_256, reference::forward_paged).with_cpu(cpu::forward_paged),
];
static TILED_PAGED: [Kernel; 3] = [
    Kernel::new(&source::ATTENTION_TILE_PAGED_64, reference::forward_paged).with_cpu(cpu::forward_paged),
    Kernel::new(&source::ATTENTION_TILE_PAGED_128, reference::forward_paged).with_cpu(cpu::forward_paged),
    Kernel::new(&source::ATTENTION_TILE_PAGED_256, reference::forward_paged).with_cpu(cpu::forward_paged),
];
static TILED: [Kernel; 3] = [
    Kernel::new(&source::ATTENTION_TILE_64, reference::forward).with_cpu(cpu::forward),
    Kernel::new(&source::ATTENTION_TILE_128, reference::forward).with_cpu(cpu::forward),
    Kernel::new(&source::ATTENTION_TILE_256, reference::forward).with_cpu(cpu::forward),
];
static BACKWARD_PREPARE: Kernel =
    Kernel::new(&source::ATTENTION_BACKWARD_PREPARE, reference::backward_prepare).with_cpu(cpu::backward_prepare);
static BACKWARD_Q: [Kernel; 3] = [
    Kernel::new(&source::ATTENTION_BACKWARD_Q_64, reference::backward_q).with_cpu(cpu::backward_q),
    Kernel::new(&source::ATTENTION_BACKWARD_Q_128, reference::backward_q).with_cpu(cpu::backward_q),
    Kernel::new(&source::ATTENTION_BACKWARD_Q_256, reference::backward_q).with_cpu(cpu::backward_q),
];
static BACKWARD_KV: [Kernel; 3] = [
    Kernel::new(&source::ATTENTION_BACKWARD_KV_64, reference::backward_kv).with_cpu(cpu::backward_kv),
    Kernel::new(&source::ATTENTION_BACKWARD_KV_128, reference::backward_kv).with_cpu(cpu::backward_kv),
    Kernel::new(&source::ATTENTION_BACKWARD_KV_256, reference::backward_kv).with_cpu(cpu::backward_kv),
];

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[
    &VECTOR[0],
    &VECTOR[1],
    &VECTOR[2],
    &TILED_PAGED[0],
    &TILED_PAGED[1],
    &TILED_PAGED[2],
    &TILED[0],
    &TILED[1],
    &TILED[2],
    &BACKWARD_PREPARE,
    &BACKWARD_Q[0],
    &BACKWARD_Q[1],
    &BACKWARD_Q[2],
    &BACKWARD_KV[0],
    &BACKWARD_KV[1],
    &BACKWARD_KV[2],
];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] =
    &[layout!(Params { batch, queries, heads, kv_heads, head_dim, window, scale, softcap })];

/// The variant whose padded head dimension holds `head_dim`.
fn variant(head_dim: u32) -> usize {
    debug_assert!(head_dim.is_multiple_of(4) && (4..=MAX_HEAD_DIM).contains(&head_dim), "head_dim {head_dim}");
    VARIANTS.iter().position(|(padded, _)| head_dim <= *padded).unwrap_or(VARIANTS.len() - 1)
}

/// Output and log-sum-exp, with own keys.
///
/// Bindings: `q[batch * queries, heads * head_dim]`, `k[batch * queries, kv_heads * head_dim]`, `v` as `k`,
/// `starts u32[batch * queries]`, `out` as `q`, `stats[batch * queries, heads, 2]` (0: log-sum-exp of the scaled
/// scores, 0 if no key is seen; 1: untouched).
pub fn forward(params: Params) -> Call {
    let grid = [params.queries.div_ceil(TILE), params.heads, params.batch];
    Call::new(&TILED[variant(params.head_dim)], &params, grid)
}

/// Output with paged keys. With `apart` queries share no keys, as in decoding: `attention_vector`, else
/// `attention_tile_paged`. Both compute the same.
///
/// Bindings: `q[queries, heads * head_dim]`, `k[blocks * BLOCK, kv_heads * head_dim]`, `v` as `k`, `spans u32[queries,
/// 3]` (the first key that a query sees, the one after its last, where the table of its sequence begins in `tables`),
/// `tables u32[..]` (the blocks of each sequence in the order of its keys), `out` as `q`.
pub fn forward_paged(params: Params, apart: bool) -> Call {
    let variant = variant(params.head_dim);
    if apart {
        return Call::new(&VECTOR[variant], &params, [params.heads, params.queries, 1]);
    }
    Call::new(&TILED_PAGED[variant], &params, [params.queries.div_ceil(TILE), params.heads, 1])
}

/// `stats[.., 1] = rowsum(dout * out)`. Bindings: `dout`, `out`, `stats` with the shapes of [`forward`].
pub fn backward_prepare(params: Params) -> Call {
    let rows = u64::from(params.batch) * u64::from(params.queries) * u64::from(params.heads);
    Call::new(&BACKWARD_PREPARE, &params, fold_elements(rows))
}

/// Gradient of the queries. Bindings: `q`, `k`, `v`, `starts`, `dout`, `stats`, `dq` with the shapes of [`forward`].
pub fn backward_q(params: Params) -> Call {
    let grid = [params.queries.div_ceil(TILE), params.heads, params.batch];
    Call::new(&BACKWARD_Q[variant(params.head_dim)], &params, grid)
}

/// Gradients of keys and values, overwritten. Bindings: `q`, `k`, `v`, `starts`, `dout`, `stats`, `dk`, `dv` with the
/// shapes of [`forward`].
pub fn backward_kv(params: Params) -> Call {
    let variant = variant(params.head_dim);
    let grid = [params.queries.div_ceil(TILE) * VARIANTS[variant].1, params.kv_heads, params.batch];
    Call::new(&BACKWARD_KV[variant], &params, grid)
}
