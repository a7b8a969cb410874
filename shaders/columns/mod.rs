//! Ranges of columns: taken out of a wide matrix, and put (back) into one.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::{Step, source};

/// Uniform of both kernels.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Rows of both matrices.
    pub rows: u32,
    /// Columns of the range.
    pub width: u32,
    /// First column of the range in the wide matrix.
    pub start: u32,
    /// Columns of the wide matrix.
    pub stride: u32,
    /// `put` only. 1: add to the columns; 0: overwrite them.
    pub accumulate: u32,
    /// Zero.
    pub pad: [u32; 3],
}

static COPY: Kernel = Kernel::new(&source::COLUMNS_COPY, copy_reference).with_cpu(cpu::copy);
static PUT: Kernel = Kernel::new(&source::COLUMNS_PUT, put_reference).with_cpu(cpu::put);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&COPY, &PUT];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { rows, width, start, stride, accumulate })];

/// `out[t, i] = x[t, start + i]`. Bindings: `x[rows, stride]`, `out[rows, width]`.
pub fn copy(params: Params) -> Call {
    Call::new(&COPY, &params, fold_elements(elements(&params)))
}

/// `x[t, start + i] (+)= part[t, i]`; other columns are left alone. Bindings: `part[rows, width]`, `x[rows, stride]`.
pub fn put(params: Params) -> Call {
    Call::new(&PUT, &params, fold_elements(elements(&params)))
}

fn elements(params: &Params) -> u64 {
    debug_assert!(params.start + params.width <= params.stride, "columns {}..+{}", params.start, params.width);
    u64::from(params.rows) * u64::from(params.width)
}

fn copy_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, out] = operands(bound);
    let (x, out) = (x.f32(), out.f32_mut());
    for t in 0..p.rows as usize {
        for i in 0..p.width as usize {
            out[t * p.width as usize + i] = x[t * p.stride as usize + p.start as usize + i];
        }
    }
}

fn put_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [part, x] = operands(bound);
    let (part, x) = (part.f32(), x.f32_mut());
    for t in 0..p.rows as usize {
        for i in 0..p.width as usize {
            let x = &mut x[t * p.stride as usize + p.start as usize + i];
            let kept = if p.accumulate != 0 { *x } else { 0.0 };
            *x = kept + part[t * p.width as usize + i];
        }
    }
}
