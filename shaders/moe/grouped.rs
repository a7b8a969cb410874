//! Products of pairs with the matrix of their own expert. The matrices lie one below the other in one weight
//! [experts * stride, inner], which may be split by rows like any other; the kernels are those of `matmul`, compiled
//! with `GROUPED`. `x` has a row per token (`slots` of the call = slots) or per pair (`slots` = 1).

use bytemuck::{Pod, Zeroable};

use super::{TILE, grouped_cpu as cpu, tiles};
use crate::format::SLAB;
use crate::kernel::{Bind, Call, Kernel, Layout, layout, operands, params};
use crate::{Format, Step, source};

/// Uniform of the grouped products: that of `matmul`, with one more field.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Pairs: rows of `y` and `dy`.
    pub tokens: u32,
    /// Columns of the weight (input features), a multiple of 4.
    pub inner: u32,
    /// First row of the whole weight that this part holds.
    pub row0: u32,
    /// Rows of this part.
    pub rows: u32,
    /// Rows of one expert's matrix: columns of `y` and `dy`.
    pub stride: u32,
    /// `transposed` only. 1: add to the output, 0: overwrite it.
    pub accumulate: u32,
    /// ggml's id of the weight's format.
    pub format: u32,
    /// Pairs that share a row of `x`.
    pub slots: u32,
}

/// Rows per workgroup of the vector kernels.
const VECTOR_ROWS: u32 = 8;

static VECTOR: [Kernel; Format::ALL.len()] = Kernel::family(&source::MOE_VECTOR, vector_reference, Some(cpu::vector));
static TILED: [Kernel; Format::ALL.len()] = Kernel::family(&source::MOE_TILE, tile_reference, Some(cpu::tile));
static TRANSPOSED: [Kernel; Format::ALL.len()] =
    Kernel::family(&source::MOE_TRANSPOSED, transposed_reference, Some(cpu::transposed));

pub(super) const KERNELS: [&Kernel; 3 * Format::ALL.len()] = Kernel::list(&[&VECTOR, &TILED, &TRANSPOSED]);

pub(super) const LAYOUT: Layout = layout!(Params { tokens, inner, row0, rows, stride, accumulate, format, slots });

/// `y[pair, n] = sum_k x[pair / slots, k] * w[ids[pair] * stride + n, k]` for the rows of this part: for few pairs,
/// unsorted.
///
/// Bindings: `x[tokens / slots, inner]`, `weight[rows, inner]` packed, `y[tokens, stride]`, `ids u32[tokens]`.
///
/// # Panics
/// If `format` is not the ggml id of a [`Format`].
pub fn vector(params: Params) -> Call {
    let grid = [params.stride.div_ceil(VECTOR_ROWS), params.tokens, 1];
    Call::new(&VECTOR[checked(&params) as usize], &params, grid)
}

/// [`vector`]'s product over sorted pairs.
///
/// Bindings: `x[tokens / slots, inner]`, `weight[rows, inner]` packed, `y[tokens, stride]`, `list u32[tokens]`,
/// `tiles u32[tiles, 4]`.
///
/// # Panics
/// If `format` is not the ggml id of a [`Format`].
pub fn tile(params: Params, experts: u32) -> Call {
    let grid = [params.stride.div_ceil(TILE), tiles(params.tokens, experts), 1];
    Call::new(&TILED[checked(&params) as usize], &params, grid)
}

/// `dx[pair, k] (+)= sum_n dy[pair, n] * w[expert * stride + n, k]` over the rows of this part.
///
/// Bindings: `dy[tokens, stride]`, `weight[rows, inner]` packed, `dx[tokens, inner]`, `list u32[tokens]`,
/// `tiles u32[tiles, 4]`.
///
/// # Panics
/// If `format` is not the ggml id of a [`Format`].
pub fn transposed(params: Params, experts: u32) -> Call {
    let grid = [params.inner.div_ceil(SLAB as u32), tiles(params.tokens, experts), 1];
    Call::new(&TRANSPOSED[checked(&params) as usize], &params, grid)
}

fn checked(params: &Params) -> Format {
    debug_assert!(params.inner.is_multiple_of(4), "inner {}", params.inner);
    debug_assert!(params.slots > 0 && params.tokens.is_multiple_of(params.slots), "slots {}", params.slots);
    Format::from_ggml_id(params.format).unwrap_or_else(|| panic!("{} is no format of a weight", params.format))
}

/// Rows of `expert` that the part holds, counted from the expert's first row, and the part's row of the first.
pub(super) fn rows_of(p: &Params, expert: u32) -> (std::ops::Range<usize>, usize) {
    let first = u64::from(expert) * u64::from(p.stride);
    let begin = first.max(p.row0.into());
    let end = (first + u64::from(p.stride)).min(u64::from(p.row0) + u64::from(p.rows)).max(begin);
    // Past the part nothing is held, and the row of the first is not used.
    ((begin - first) as usize..(end - first) as usize, begin.saturating_sub(p.row0.into()) as usize)
}

/// Expert and pair of every pair in `tiles`, in order.
fn sorted<'a>(list: &'a [u32], tiles: &'a [u32]) -> impl Iterator<Item = (u32, usize)> + 'a {
    tiles.chunks_exact(4).flat_map(move |tile| {
        let entries = &list[tile[1] as usize..][..tile[2] as usize];
        entries.iter().map(move |pair| (tile[0], *pair as usize))
    })
}

fn forward(p: &Params, x: &[f32], weight: &[f32], y: &mut [f32], pairs: impl Iterator<Item = (u32, usize)>) {
    let (inner, stride) = (p.inner as usize, p.stride as usize);
    for (expert, pair) in pairs {
        let x = &x[pair / p.slots as usize * inner..][..inner];
        let (rows, first) = rows_of(p, expert);
        for (index, row) in rows.enumerate() {
            let w = &weight[(first + index) * inner..][..inner];
            let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            y[pair * stride + row] = sum as f32;
        }
    }
}

fn vector_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, y, ids] = operands(bound);
    let weight = weight.decoded(p.format, p.rows as usize, p.inner as usize);
    let pairs = ids.words().iter().copied().zip(0..p.tokens as usize);
    forward(&p, x.f32(), &weight, y.f32_mut(), pairs);
}

fn tile_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, y, list, tiles] = operands(bound);
    let weight = weight.decoded(p.format, p.rows as usize, p.inner as usize);
    forward(&p, x.f32(), &weight, y.f32_mut(), sorted(list.words(), tiles.words()));
}

fn transposed_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [dy, weight, dx, list, tiles] = operands(bound);
    let (inner, stride) = (p.inner as usize, p.stride as usize);
    let weight = weight.decoded(p.format, p.rows as usize, inner);
    let (dy, dx) = (dy.f32(), dx.f32_mut());
    for (expert, pair) in sorted(list.words(), tiles.words()) {
        let mut sums = vec![0.0f64; inner];
        let (rows, first) = rows_of(&p, expert);
        for (index, row) in rows.enumerate() {
            let d = f64::from(dy[pair * stride + row]);
            let w = &weight[(first + index) * inner..][..inner];
            sums.iter_mut().zip(w).for_each(|(sum, w)| *sum += d * f64::from(*w));
        }
        for (dx, sum) in dx[pair * inner..].iter_mut().zip(&sums) {
            *dx = if p.accumulate != 0 { *dx + *sum as f32 } else { *sum as f32 };
        }
    }
}
