//! Strided f32 matrix product: all low-rank products.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, MAX_GROUPS, fold, layout, operands, params};
use crate::{Step, source};

/// Uniform of both kernels. Strides are in words; `c` is contiguous.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Rows of `a` and `c`.
    pub m: u32,
    /// Columns of `b` and `c`.
    pub n: u32,
    /// Columns of `a` and rows of `b`.
    pub k: u32,
    /// From one row of `a` to the next.
    pub a_row: u32,
    /// From one column of `a` to the next.
    pub a_col: u32,
    /// From one row of `b` to the next.
    pub b_row: u32,
    /// From one column of `b` to the next.
    pub b_col: u32,
    /// 1: add to `c`, 0: overwrite it.
    pub accumulate: u32,
    /// Factor on the product.
    pub alpha: f32,
    /// Fills the uniform up to 48 bytes.
    pub pad: [u32; 3],
}

/// Rows and columns per workgroup of `dense_tile`.
const TILE: u32 = 32;
/// Rows and columns per workgroup of `dense_dot`.
const DOT_TILE: u32 = 4;
/// Largest low rank: a smaller side of `c` up to this leaves too few tiles of `dense_tile` to fill a device.
const DOT_SIDE: u32 = 64;
/// Shortest contraction for `dense_dot`: two steps of its 64 lanes.
const DOT_LENGTH: u32 = 128;

static DOT: Kernel = Kernel::new(&source::DENSE_DOT, product_reference).with_cpu(cpu::product);
static TILED: Kernel = Kernel::new(&source::DENSE_TILE, product_reference).with_cpu(cpu::product);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&DOT, &TILED];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { m, n, k, a_row, a_col, b_row, b_col, accumulate, alpha })];

/// `c[i, j] (+)= alpha * sum_k a[i * a_row + k * a_col] * b[k * b_row + j * b_col]`. `dense_dot` where one side of `c`
/// is a low rank and the contraction is long and contiguous in `a` (activations times A or B), `dense_tile` otherwise.
///
/// Bindings: `a`, `b`, `c[m, n]`.
pub fn product(params: Params) -> Call {
    if params.m.min(params.n) <= DOT_SIDE && params.k >= DOT_LENGTH && params.a_col == 1 {
        let (rows, columns) = (params.m.div_ceil(DOT_TILE), params.n.div_ceil(DOT_TILE));
        return Call::new(&DOT, &params, fold(u64::from(rows) * u64::from(columns)));
    }
    let rows = params.m.div_ceil(TILE);
    let grid = [params.n.div_ceil(TILE), rows.min(MAX_GROUPS), rows.div_ceil(MAX_GROUPS)];
    Call::new(&TILED, &params, grid)
}

fn product_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, b, c] = operands(bound);
    let (a, b, c) = (a.f32(), b.f32(), c.f32_mut());
    let at = |i: u32, row: u32, k: u32, col: u32| i as usize * row as usize + k as usize * col as usize;
    for i in 0..p.m {
        for j in 0..p.n {
            let term = |k| f64::from(a[at(i, p.a_row, k, p.a_col)]) * f64::from(b[at(k, p.b_row, j, p.b_col)]);
            let sum = p.alpha * (0..p.k).map(term).sum::<f64>() as f32;
            let out = &mut c[at(i, p.n, j, 1)];
            *out = if p.accumulate != 0 { *out + sum } else { sum };
        }
    }
}
