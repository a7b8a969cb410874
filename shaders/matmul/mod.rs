//! Products with a quantised weight, forward and transposed. There is no gradient of the weight: the base is frozen.

mod cpu;
pub mod low_rank;
mod precision;

use bytemuck::{Pod, Zeroable};

use crate::format::SLAB;
use crate::kernel::{Bind, Call, Kernel, Layout, Variant, fold, layout, operands, params};
use crate::{Format, Step, source};

/// Uniform of all kernels of this op.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Rows of the activations.
    pub tokens: u32,
    /// Columns of the weight (input features), a multiple of 4.
    pub inner: u32,
    /// First row of the whole weight that this part holds.
    pub row0: u32,
    /// Rows of this part (output features).
    pub rows: u32,
    /// Rows of the whole weight: columns of `y` and `dy`.
    pub stride: u32,
    /// 1: add to the output, 0: overwrite it.
    pub accumulate: u32,
    /// ggml's id of the weight's format.
    pub format: u32,
    /// Rank of the update that the kernels of [`low_rank`] add, a multiple of 4; the others do not read it.
    pub rank: u32,
}

/// Most tokens that the vector kernels take.
pub const VECTOR_TOKENS: u32 = 4;
/// Rows per workgroup of the vector kernels.
const VECTOR_ROWS: u32 = 8;
/// Tokens, and rows, per workgroup of the tiled kernels.
const TILE: u32 = 64;

const FORMATS: usize = Format::ALL.len();

static VECTOR: [Kernel; FORMATS] = Kernel::family(&source::MATMUL_VECTOR, forward_reference, Some(cpu::vector));
static TILED: [Kernel; FORMATS] = Kernel::with_precisions(
    Kernel::with_variants(Kernel::family(&source::MATMUL_TILE, forward_reference, Some(cpu::tile)), &TILED_VARIANTS),
    &precision::FORWARD,
);
static TILED_WIDE: [Kernel; FORMATS] = Kernel::family(&source::MATMUL_TILE_WIDE, forward_reference, Some(cpu::tile));
static TILED_SMALL: [Kernel; FORMATS] = Kernel::family(&source::MATMUL_TILE_SMALL, forward_reference, Some(cpu::tile));
static TRANSPOSED: [Kernel; FORMATS] = Kernel::with_precisions(
    Kernel::with_variants(
        Kernel::family(&source::MATMUL_TRANSPOSED, transposed_reference, Some(cpu::transposed)),
        &TRANSPOSED_VARIANTS,
    ),
    &precision::BACKWARD,
);
static TRANSPOSED_WIDE: [Kernel; FORMATS] =
    Kernel::family(&source::MATMUL_TRANSPOSED_WIDE, transposed_reference, Some(cpu::transposed));

static TILED_VARIANTS: [[Variant; 2]; FORMATS] =
    Variant::families(&[(&TILED_WIDE, wide_tiles), (&TILED_SMALL, small_tiles)]);
static TRANSPOSED_VARIANTS: [[Variant; 1]; FORMATS] = Variant::families(&[(&TRANSPOSED_WIDE, wide_slabs)]);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &Kernel::list::<{ 18 * FORMATS }>(&[
    &VECTOR,
    &TILED,
    &TILED_WIDE,
    &TILED_SMALL,
    &TRANSPOSED,
    &TRANSPOSED_WIDE,
    &precision::INT8,
    &precision::TILED,
    &precision::TILED_8,
    &precision::TILED_16,
    &precision::TRANSPOSED,
    &precision::TRANSPOSED_8,
    &precision::TRANSPOSED_16,
    &low_rank::TILED,
    &low_rank::TILED_WIDE,
    &low_rank::TILED_SMALL,
    &low_rank::TRANSPOSED,
    &low_rank::TRANSPOSED_WIDE,
]);

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { tokens, inner, row0, rows, stride, accumulate, format, rank })];

/// `y[t, row0 + n] (+)= sum_k x[t, k] * w[n, k]` for the rows n of this part. `matmul_vector` for up to four tokens,
/// `matmul_tile` for more.
///
/// Bindings: `x[tokens, inner]`, `weight[rows, inner]` packed, `y[tokens, stride]`.
///
/// # Panics
/// If `format` is not the ggml id of a [`Format`].
pub fn forward(params: Params) -> Call {
    let format = checked(&params);
    if params.tokens <= VECTOR_TOKENS {
        return Call::new(&VECTOR[format as usize], &params, fold(params.rows.div_ceil(VECTOR_ROWS).into()));
    }
    Call::new(&TILED[format as usize], &params, tiles(&params, TILE, TILE))
}

/// `dx[t, k] (+)= sum_n dy[t, row0 + n] * w[n, k]` over the rows n of this part.
///
/// Bindings: `dy[tokens, stride]`, `weight[rows, inner]` packed, `dx[tokens, inner]`.
///
/// # Panics
/// If `format` is not the ggml id of a [`Format`].
pub fn transposed(params: Params) -> Call {
    let format = checked(&params);
    Call::new(&TRANSPOSED[format as usize], &params, slabs(&params, TILE))
}

/// The grid of a tiled product with `rows` x `tokens` per workgroup.
fn tiles(p: &Params, rows: u32, tokens: u32) -> [u32; 3] {
    [p.rows.div_ceil(rows), p.tokens.div_ceil(tokens), 1]
}

/// The grid of a transposed product with one slab x `tokens` per workgroup.
fn slabs(p: &Params, tokens: u32) -> [u32; 3] {
    [p.inner.div_ceil(SLAB as u32), p.tokens.div_ceil(tokens), 1]
}

fn wide_tiles(bytes: &[u8]) -> [u32; 3] {
    tiles(&params(bytes), TILE, 2 * TILE)
}

fn small_tiles(bytes: &[u8]) -> [u32; 3] {
    tiles(&params(bytes), TILE / 2, TILE / 2)
}

fn wide_slabs(bytes: &[u8]) -> [u32; 3] {
    slabs(&params(bytes), 2 * TILE)
}

fn checked(params: &Params) -> Format {
    debug_assert!(params.inner.is_multiple_of(4), "inner {}", params.inner);
    debug_assert!(params.row0 + params.rows <= params.stride, "rows {}..+{}", params.row0, params.rows);
    Format::from_ggml_id(params.format).unwrap_or_else(|| panic!("{} is no format of a weight", params.format))
}

fn forward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let [x, weight, y] = operands(bound);
    forward_sums(&params(bytes), [x, weight], y, |_, _| 0.0);
}

/// The product plus `more` of every token and row of the part.
fn forward_sums(p: &Params, [x, weight]: [&Bind<'_>; 2], y: &mut Bind<'_>, more: impl Fn(usize, usize) -> f64) {
    let (inner, stride) = (p.inner as usize, p.stride as usize);
    let weight = weight.decoded(p.format, p.rows as usize, inner);
    let (x, y) = (x.f32(), y.f32_mut());
    for t in 0..p.tokens as usize {
        for (n, w) in weight.chunks(inner).enumerate() {
            let sum: f64 = x[t * inner..].iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            put(&mut y[t * stride + p.row0 as usize + n], sum + more(t, n), p.accumulate);
        }
    }
}

fn transposed_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let [dy, weight, dx] = operands(bound);
    transposed_sums(&params(bytes), [dy, weight], dx, |_, _| 0.0);
}

/// The transposed product plus `more` of every token and column.
fn transposed_sums(p: &Params, [dy, weight]: [&Bind<'_>; 2], dx: &mut Bind<'_>, more: impl Fn(usize, usize) -> f64) {
    let (inner, stride) = (p.inner as usize, p.stride as usize);
    let weight = weight.decoded(p.format, p.rows as usize, inner);
    let (dy, dx) = (dy.f32(), dx.f32_mut());
    let mut sums = vec![0.0f64; inner];
    for t in 0..p.tokens as usize {
        sums.fill(0.0);
        for (n, w) in weight.chunks(inner).enumerate() {
            let d = f64::from(dy[t * stride + p.row0 as usize + n]);
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum += d * f64::from(*w);
            }
        }
        for (k, (dx, sum)) in dx[t * inner..].iter_mut().zip(&sums).enumerate() {
            put(dx, *sum + more(t, k), p.accumulate);
        }
    }
}

/// Overwrites or adds to an output.
fn put(out: &mut f32, sum: f64, accumulate: u32) {
    *out = if accumulate != 0 { *out + sum as f32 } else { sum as f32 };
}
