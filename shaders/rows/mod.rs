//! Rows picked by a list: the trained rows go to the loss head, their gradients come back.

use bytemuck::{Pod, Zeroable};

use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::step::NONE;

/// Uniform of both kernels.
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
