//! Mixture of experts (Shazeer et al. 2017; as in Qwen3-MoE): each token goes through the few experts that a router
//! picks for it, and their outputs are added up with the router's weights.
//!
//! A *pair* is a token and one of its `slots` experts, numbered `token * slots + slot`. [`route`] picks experts,
//! [`count`] and [`place`] sort the pairs by expert (stable, without atomics: the same bits every time), the products
//! of [`grouped`] run over tiles of pairs of one expert, and [`combine`] adds up each token's pairs. [`low_rank`] has
//! the products of updates on experts.

mod cpu;
pub mod grouped;
mod grouped_cpu;
pub mod low_rank;
mod reference;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Call, Kernel, Layout, fold, fold_elements, layout};
use crate::{Format, source};

/// Uniform of the kernels that route, sort and combine.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Tokens.
    pub tokens: u32,
    /// Experts.
    pub experts: u32,
    /// Experts per token, at most `experts`.
    pub slots: u32,
    /// Columns of an expert's output (`combine`, `sum`), or [`tiles`] (`place`).
    pub width: u32,
    /// `sum` only. 1: add to `dx`; 0: overwrite it.
    pub accumulate: u32,
    /// `route` and its gradient only. 1: weights are a softmax over all experts; 0: over the chosen ones.
    pub over_all: u32,
    /// Zero.
    pub pad: [u32; 2],
}

impl Params {
    /// Pairs of a token and a slot.
    pub fn pairs(&self) -> u32 {
        self.tokens * self.slots
    }
}

/// Pairs in a tile of the grouped products.
pub const TILE: u32 = 64;

/// Tiles that `pairs` pairs take at most, however the router spreads them: words of `tiles` are four times as many.
pub fn tiles(pairs: u32, experts: u32) -> u32 {
    pairs / TILE + experts.min(pairs)
}

static ROUTE: Kernel = Kernel::new(&source::MOE_ROUTE, reference::route).with_cpu(cpu::route);
static ROUTE_BACKWARD: Kernel = Kernel::new(&source::MOE_ROUTE_BACKWARD, reference::route_backward);
static COUNT: Kernel = Kernel::new(&source::MOE_COUNT, reference::count);
static PLACE: Kernel = Kernel::new(&source::MOE_PLACE, reference::place);
static COMBINE: Kernel = Kernel::new(&source::MOE_COMBINE, reference::combine).with_cpu(cpu::combine);
static COMBINE_BACKWARD: Kernel =
    Kernel::new(&source::MOE_COMBINE_BACKWARD, reference::combine_backward).with_cpu(cpu::combine_backward);
static SUM: Kernel = Kernel::new(&source::MOE_SUM, reference::sum).with_cpu(cpu::sum);

/// The kernels of this op besides those of [`grouped`].
const SINGLE: [&Kernel; 9] = [
    &ROUTE,
    &ROUTE_BACKWARD,
    &COUNT,
    &PLACE,
    &COMBINE,
    &COMBINE_BACKWARD,
    &SUM,
    low_rank::KERNELS[0],
    low_rank::KERNELS[1],
];

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &{
    let mut kernels = [SINGLE[0]; SINGLE.len() + 3 * Format::ALL.len()];
    let mut index = 1;
    while index < kernels.len() {
        kernels[index] = if index < SINGLE.len() { SINGLE[index] } else { grouped::KERNELS[index - SINGLE.len()] };
        index += 1;
    }
    kernels
};

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] =
    &[layout!(Params { tokens, experts, slots, width, accumulate, over_all }), grouped::LAYOUT, low_rank::LAYOUT];

/// The `slots` experts with the largest logits of every token, largest first, of equal ones the lowest, and the
/// softmax over those logits. That is the softmax over all experts, with the chosen weights scaled to a sum of 1; with
/// `over_all` they are not scaled.
///
/// Bindings: `logits[tokens, experts]`, `ids u32[tokens, slots]`, `weights[tokens, slots]`.
pub fn route(params: Params) -> Call {
    debug_assert!(params.slots <= params.experts, "{} of {} experts", params.slots, params.experts);
    Call::new(&ROUTE, &params, fold(params.tokens.into()))
}

/// `dlogits[t, ids[t, j]] = w_j * (dw_j - sum_i w_i * dw_i)`, 0 for experts that were not chosen; with `over_all`
/// `-p_e * sum_i w_i * dw_i` for those, where p is the softmax.
///
/// Bindings: `logits[tokens, experts]`, `ids u32[tokens, slots]`, `weights[tokens, slots]`,
/// `dweights[tokens, slots]`, `dlogits[tokens, experts]`.
pub fn route_backward(params: Params) -> Call {
    Call::new(&ROUTE_BACKWARD, &params, fold_elements(u64::from(params.tokens) * u64::from(params.experts)))
}

/// How many pairs chose each expert. Bindings: `ids u32[tokens, slots]`, `counts u32[experts]`.
pub fn count(params: Params) -> Call {
    Call::new(&COUNT, &params, fold(params.experts.into()))
}

/// The pairs sorted by expert, in order, and the tiles that they make, with `width` = [`tiles`].
///
/// Bindings: `ids u32[tokens, slots]`, `counts u32[experts]`, `list u32[tokens * slots]`, `tiles u32[width, 4]`
/// (expert, first entry of the list, entries, 0; surplus tiles are zeros).
pub fn place(params: Params) -> Call {
    Call::new(&PLACE, &params, fold(params.experts.into()))
}

/// `out[t] = sum_j weights[t, j] * y[t * slots + j]`.
///
/// Bindings: `y[tokens * slots, width]`, `weights[tokens, slots]`, `out[tokens, width]`.
pub fn combine(params: Params) -> Call {
    Call::new(&COMBINE, &params, fold_elements(u64::from(params.tokens) * u64::from(params.width)))
}

/// `dy[pair] = weights[pair] * dout[t]`, `dweights[pair] = dout[t] . y[pair]`.
///
/// Bindings: `y[tokens * slots, width]`, `weights[tokens, slots]`, `dout[tokens, width]`,
/// `dy[tokens * slots, width]`, `dweights[tokens, slots]`.
pub fn combine_backward(params: Params) -> Call {
    Call::new(&COMBINE_BACKWARD, &params, fold(params.pairs().into()))
}

/// `dx[t] (+)= sum_j dpairs[t * slots + j]`. Bindings: `dpairs[tokens * slots, width]`, `dx[tokens, width]`.
pub fn sum(params: Params) -> Call {
    Call::new(&SUM, &params, fold_elements(u64::from(params.tokens) * u64::from(params.width)))
}
