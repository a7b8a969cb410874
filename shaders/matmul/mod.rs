//! Products with a quantised weight, forward and transposed. There is no gradient of the weight: the base is frozen.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::format::SLAB;
use crate::kernel::{Bind, Call, Kernel, Layout, fold, layout, operands, params};
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
    /// Fills the uniform up to 32 bytes.
    pub pad: u32,
}

/// Most tokens that the vector kernels take.
pub const VECTOR_TOKENS: u32 = 4;
/// Rows per workgroup of the vector kernels.
const VECTOR_ROWS: u32 = 8;
/// Tokens, and rows, per workgroup of the tiled kernels.
const TILE: u32 = 64;

static VECTOR: [Kernel; Format::ALL.len()] =
    Kernel::family(&source::MATMUL_VECTOR, forward_reference, Some(cpu::vector));
static TILED: [Kernel; Format::ALL.len()] = Kernel::family(&source::MATMUL_TILE, forward_reference, Some(cpu::tile));
static TRANSPOSED: [Kernel; Format::ALL.len()] =
    Kernel::family(&source::MATMUL_TRANSPOSED, transposed_reference, Some(cpu::transposed));

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &Kernel::list::<{ 3 * Format::ALL.len() }>(&[&VECTOR, &TILED, &TRANSPOSED]);

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { tokens, inner, row0, rows, stride, accumulate, format })];

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
    let grid = [params.rows.div_ceil(TILE), params.tokens.div_ceil(TILE), 1];
    Call::new(&TILED[format as usize], &params, grid)
}

/// `dx[t, k] (+)= sum_n dy[t, row0 + n] * w[n, k]` over the rows n of this part.
///
/// Bindings: `dy[tokens, stride]`, `weight[rows, inner]` packed, `dx[tokens, inner]`.
///
/// # Panics
/// If `format` is not the ggml id of a [`Format`].
pub fn transposed(params: Params) -> Call {
    let format = checked(&params);
    let grid = [params.inner.div_ceil(SLAB as u32), params.tokens.div_ceil(TILE), 1];
    Call::new(&TRANSPOSED[format as usize], &params, grid)
}

fn checked(params: &Params) -> Format {
    debug_assert!(params.inner.is_multiple_of(4), "inner {}", params.inner);
    debug_assert!(params.row0 + params.rows <= params.stride, "rows {}..+{}", params.row0, params.rows);
    Format::from_ggml_id(params.format).unwrap_or_else(|| panic!("{} is no format of a weight", params.format))
}

fn forward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, y] = operands(bound);
    let (inner, stride) = (p.inner as usize, p.stride as usize);
    let weight = weight.decoded(p.format, p.rows as usize, inner);
    let (x, y) = (x.f32(), y.f32_mut());
    for t in 0..p.tokens as usize {
        for (n, w) in weight.chunks(inner).enumerate() {
            let sum: f64 = x[t * inner..].iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            put(&mut y[t * stride + p.row0 as usize + n], sum, p.accumulate);
        }
    }
}

fn transposed_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [dy, weight, dx] = operands(bound);
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
        for (dx, sum) in dx[t * inner..].iter_mut().zip(&sums) {
            put(dx, *sum, p.accumulate);
        }
    }
}

/// Overwrites or adds to an output.
fn put(out: &mut f32, sum: f64, accumulate: u32) {
    *out = if accumulate != 0 { *out + sum as f32 } else { sum as f32 };
}
