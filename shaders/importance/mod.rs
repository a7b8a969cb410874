//! Column sums of squares: how strongly each input of a product is driven, what importance matrices are made of.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold, layout, operands, params};
use crate::{Step, source};

/// Uniform of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Rows of x.
    pub rows: u32,
    /// Columns of x.
    pub width: u32,
    /// Zero.
    pub pad: [u32; 2],
}

static SQUARES: Kernel = Kernel::new(&source::IMPORTANCE_SQUARES, reference).with_cpu(cpu::squares);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&SQUARES];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { rows, width })];

/// `sums[c] = x[0, c]^2 + x[1, c]^2 + ..`, row by row. Bindings: `x[rows, width]`, `sums[width]`.
pub fn squares(params: Params) -> Call {
    Call::new(&SQUARES, &params, fold(params.width.div_ceil(64).into()))
}

fn reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, sums] = operands(bound);
    let (x, sums) = (x.f32(), sums.f32_mut());
    let width = p.width as usize;
    for c in 0..width {
        sums[c] = (0..p.rows as usize).map(|t| f64::from(x[t * width + c]).powi(2)).sum::<f64>() as f32;
    }
}
