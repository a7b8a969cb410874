//! Element by element: sums, copies and constants.

use bytemuck::{Pod, Zeroable};

use crate::Step;
use crate::kernel::{Bind, operands, params};

/// Uniform of all kernels of this op.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Elements of every binding.
    pub len: u32,
    /// What `fill` writes, what `scale` multiplies by. Others ignore it.
    pub value: f32,
    /// Zero.
    pub pad: [u32; 2],
}

fn add_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, b, out] = operands(bound);
    let (a, b, out) = (a.f32(), b.f32(), out.f32_mut());
    for i in 0..p.len as usize {
        out[i] = a[i] + b[i];
    }
}

fn accumulate_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, out] = operands(bound);
    let (a, out) = (a.f32(), out.f32_mut());
    for i in 0..p.len as usize {
        out[i] += a[i];
    }
}

fn copy_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, out] = operands(bound);
    let len = p.len as usize;
    out.f32_mut()[..len].copy_from_slice(&a.f32()[..len]);
}

fn fill_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [out] = operands(bound);
    out.f32_mut()[..p.len as usize].fill(p.value);
}

fn scale_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [out] = operands(bound);
    for value in &mut out.f32_mut()[..p.len as usize] {
        *value *= p.value;
    }
}
