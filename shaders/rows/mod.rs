//! Rows picked by a list: the trained rows go to the loss head, their gradients come back; tokens pick rows of an
//! adapter on the embedding.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::step::NONE;
use crate::{Step, source};

/// Uniform of all kernels.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Entries of the list that this call works on.
    pub count: u32,
    /// Columns.
    pub width: u32,
    /// First entry of the list.
    pub offset: u32,
    /// Zero.
    pub pad: u32,
}

static GATHER: Kernel = Kernel::new(&source::ROWS_GATHER, gather_reference).with_cpu(cpu::gather);
static SCATTER: Kernel = Kernel::new(&source::ROWS_SCATTER, scatter_reference).with_cpu(cpu::scatter);
static ADD: Kernel = Kernel::new(&source::ROWS_ADD, add_reference).with_cpu(cpu::add);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&GATHER, &SCATTER, &ADD];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { count, width, offset })];

/// `out[i] = x[rows[offset + i]]`, zeros where the entry is [`NONE`].
/// Bindings: `rows u32[offset + count or more]`, `x[T, width]`, `out[count, width]`.
pub fn gather(params: Params) -> Call {
    Call::new(&GATHER, &params, fold_elements(u64::from(params.count) * u64::from(params.width)))
}

/// `out[rows[offset + i]] = src[i]`; entries that are [`NONE`] write nothing, no other may occur twice.
/// Bindings: `rows u32[offset + count or more]`, `src[count, width]`, `out[T, width]`.
pub fn scatter(params: Params) -> Call {
    Call::new(&SCATTER, &params, fold_elements(u64::from(params.count) * u64::from(params.width)))
}

/// `out[rows[offset + i]] += src[i]`; entries that are [`NONE`] add nothing. Others may occur several times: theirs are
/// added in the order of the list.
/// Bindings: `rows u32[offset + count or more]`, `src[count, width]`, `out[T, width]`.
pub fn add(params: Params) -> Call {
    Call::new(&ADD, &params, fold_elements(u64::from(params.count) * u64::from(params.width)))
}

fn gather_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [rows, x, out] = operands(bound);
    let (rows, x, out) = (rows.words(), x.f32(), out.f32_mut());
    let width = p.width as usize;
    for i in 0..p.count as usize {
        let out = &mut out[i * width..(i + 1) * width];
        match rows[p.offset as usize + i] {
            NONE => out.fill(0.0),
            row => out.copy_from_slice(&x[row as usize * width..][..width]),
        }
    }
}

fn scatter_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [rows, src, out] = operands(bound);
    let (rows, src, out) = (rows.words(), src.f32(), out.f32_mut());
    let width = p.width as usize;
    for i in 0..p.count as usize {
        let row = rows[p.offset as usize + i];
        if row != NONE {
            out[row as usize * width..][..width].copy_from_slice(&src[i * width..][..width]);
        }
    }
}

fn add_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [rows, src, out] = operands(bound);
    let (rows, src, out) = (rows.words(), src.f32(), out.f32_mut());
    let width = p.width as usize;
    for i in 0..p.count as usize {
        let row = rows[p.offset as usize + i];
        if row != NONE {
            let out = &mut out[row as usize * width..][..width];
            out.iter_mut().zip(&src[i * width..]).for_each(|(out, src)| *out += src);
        }
    }
}
