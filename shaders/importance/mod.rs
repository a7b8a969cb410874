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

/// Uniform of the kernel over experts.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct GroupedParams {
    /// Experts.
    pub experts: u32,
    /// Pairs that share a row of x: the experts per token, or 1 if x has a row per pair.
    pub slots: u32,
    /// Columns of x.
    pub width: u32,
    /// Zero.
    pub pad: u32,
}

static SQUARES: Kernel = Kernel::new(&source::IMPORTANCE_SQUARES, reference).with_cpu(cpu::squares);
static GROUPED: Kernel = Kernel::new(&source::IMPORTANCE_GROUPED, grouped_reference).with_cpu(cpu::grouped);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&SQUARES, &GROUPED];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { rows, width }), layout!(GroupedParams { experts, slots, width })];

/// `sums[c] = x[0, c]^2 + x[1, c]^2 + ..`, row by row. Bindings: `x[rows, width]`, `sums[width]`.
pub fn squares(params: Params) -> Call {
    Call::new(&SQUARES, &params, fold(params.width.div_ceil(64).into()))
}

/// `sums[e, c] = x[r, c]^2 + ..` over the rows of the pairs of expert `e`, in the order of `list`; 0 for an expert
/// without pairs. Pairs, `counts` and `list` are those of [`crate::moe`].
///
/// Bindings: `x[pairs / slots, width]`, `counts u32[experts]`, `list u32[pairs]`, `sums[experts, width]`.
pub fn grouped(params: GroupedParams) -> Call {
    Call::new(&GROUPED, &params, fold(u64::from(params.experts) * u64::from(params.width.div_ceil(64))))
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

fn grouped_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: GroupedParams = params(bytes);
    let [x, counts, list, sums] = operands(bound);
    let (x, mut list, sums, width) = (x.f32(), list.words(), sums.f32_mut(), p.width as usize);
    for (expert, count) in counts.words()[..p.experts as usize].iter().enumerate() {
        let (own, rest) = list.split_at(*count as usize);
        list = rest;
        for c in 0..width {
            let square = |pair: &u32| f64::from(x[(pair / p.slots) as usize * width + c]).powi(2);
            sums[expert * width + c] = own.iter().map(square).sum::<f64>() as f32;
        }
    }
}
