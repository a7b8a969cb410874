//! Products with a quantised weight and a low-rank update on it in one pass: the ranks are further steps of the same
//! sums, so that what the weight gives is not written, read and written again.

use crate::format::Format;
use crate::kernel::{Bind, Call, Kernel, Variant, operands, params};
use crate::{Step, source};

use super::{
    FORMATS, Params, TILE, VECTOR_TOKENS, checked, cpu, forward_sums, slabs, small_tiles, tiles, transposed_sums,
    wide_slabs, wide_tiles,
};

pub(super) static TILED: [Kernel; FORMATS] = Kernel::with_variants(
    Kernel::family(&source::MATMUL_TILE_LORA, forward_reference, Some(cpu::tile_low_rank)),
    &TILED_VARIANTS,
);
pub(super) static TILED_WIDE: [Kernel; FORMATS] =
    Kernel::family(&source::MATMUL_TILE_WIDE_LORA, forward_reference, Some(cpu::tile_low_rank));
pub(super) static TILED_SMALL: [Kernel; FORMATS] =
    Kernel::family(&source::MATMUL_TILE_SMALL_LORA, forward_reference, Some(cpu::tile_low_rank));
pub(super) static TRANSPOSED: [Kernel; FORMATS] = Kernel::with_variants(
    Kernel::family(&source::MATMUL_TRANSPOSED_LORA, transposed_reference, Some(cpu::transposed_low_rank)),
    &TRANSPOSED_VARIANTS,
);
pub(super) static TRANSPOSED_WIDE: [Kernel; FORMATS] =
    Kernel::family(&source::MATMUL_TRANSPOSED_WIDE_LORA, transposed_reference, Some(cpu::transposed_low_rank));

static TILED_VARIANTS: [[Variant; 2]; FORMATS] =
    Variant::families(&[(&TILED_WIDE, wide_tiles), (&TILED_SMALL, small_tiles)]);
static TRANSPOSED_VARIANTS: [[Variant; 1]; FORMATS] = Variant::families(&[(&TRANSPOSED_WIDE, wide_slabs)]);

/// Whether there is a kernel for updates of this rank: ranks are read four at a time.
pub fn has_kernel(rank: usize) -> bool {
    rank > 0 && rank.is_multiple_of(4)
}

/// `y[t, row0 + n] (+)= sum_k x[t, k] * w[n, k] + sum_r u[t, r] * b[row0 + n, r]` for the rows n of this part, for more
/// than [`VECTOR_TOKENS`] tokens. `u` is x Aᵀ times the scale of the update.
///
/// Bindings: `x[tokens, inner]`, `weight[rows, inner]` packed, `y[tokens, stride]`, `u[tokens, rank]`, `b[stride,
/// rank]`.
///
/// # Panics
/// If `format` is not the ggml id of a [`Format`].
pub fn forward(params: Params) -> Call {
    debug_assert!(params.tokens > VECTOR_TOKENS, "{} tokens", params.tokens);
    Call::new(&TILED[kernel(&params) as usize], &params, tiles(&params, TILE, TILE))
}

/// `dx[t, k] (+)= sum_n dy[t, row0 + n] * w[n, k] + sum_r du[t, r] * a[r, k]` over the rows n of this part. `du` is dy
/// B times the scale of the update.
///
/// Bindings: `dy[tokens, stride]`, `weight[rows, inner]` packed, `dx[tokens, inner]`, `du[tokens, rank]`, `a[rank,
/// inner]`.
///
/// # Panics
/// If `format` is not the ggml id of a [`Format`].
pub fn transposed(params: Params) -> Call {
    Call::new(&TRANSPOSED[kernel(&params) as usize], &params, slabs(&params, TILE))
}

fn kernel(params: &Params) -> Format {
    debug_assert!(has_kernel(params.rank as usize), "rank {}", params.rank);
    checked(params)
}

fn forward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, y, u, b] = operands(bound);
    let (u, b, rank) = (u.f32(), b.f32(), p.rank as usize);
    forward_sums(&p, [x, weight], y, |t, n| {
        let b = &b[(p.row0 as usize + n) * rank..][..rank];
        u[t * rank..].iter().zip(b).map(|(u, b)| f64::from(*u) * f64::from(*b)).sum()
    });
}

fn transposed_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [dy, weight, dx, du, a] = operands(bound);
    let (du, a, rank, inner) = (du.f32(), a.f32(), p.rank as usize, p.inner as usize);
    transposed_sums(&p, [dy, weight], dx, |t, k| {
        (0..rank).map(|r| f64::from(du[t * rank + r]) * f64::from(a[r * inner + k])).sum()
    });
}
