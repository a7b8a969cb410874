//! Causal attention over grouped query heads, flash style (Dao 2023): no buffer of queries x keys exists.
//!
//! Query `i` of batch `b` has position `p = step.past + i` and sees keys `starts[b, i] <= j <= p`, with a sliding
//! window also `j > p - window`. `starts` keeps packed conversations apart. A query that sees no key gives zeros.
//! Query head `h` reads key/value head `h / (heads / kv_heads)`.
//!
//! Backward recomputes the probabilities from the log-sum-exp that `forward` left in `stats[.., 0]`:
//! `P = exp(scale * q k - lse)`, `dS = P * (dout v - delta) * scale` with `delta = rowsum(dout * out)` in `stats[.., 1]`,
//! `dq = dS k`, `dk = dS^T q`, `dv = P^T dout`. `backward_q` owns query rows and `backward_kv` key rows, so nothing is
//! added from two workgroups.

mod reference;

use bytemuck::{Pod, Zeroable};

/// Uniform of all kernels of this op.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Sequences.
    pub batch: u32,
    /// Queries per sequence.
    pub queries: u32,
    /// Rows of `k` and `v` per sequence.
    pub keys: u32,
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
}

/// Largest head dimension that the kernels take.
pub const MAX_HEAD_DIM: u32 = 128;
