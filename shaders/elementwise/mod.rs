//! Element by element: sums, copies and constants.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::{Step, source};

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

static ADD: Kernel = Kernel::new(&source::ELEMENTWISE_ADD, add_reference).with_cpu(cpu::add);
static ACCUMULATE: Kernel =
    Kernel::new(&source::ELEMENTWISE_ACCUMULATE, accumulate_reference).with_cpu(cpu::accumulate);
static COPY: Kernel = Kernel::new(&source::ELEMENTWISE_COPY, copy_reference).with_cpu(cpu::copy);
static FILL: Kernel = Kernel::new(&source::ELEMENTWISE_FILL, fill_reference).with_cpu(cpu::fill);
static SCALE: Kernel = Kernel::new(&source::ELEMENTWISE_SCALE, scale_reference).with_cpu(cpu::scale);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&ADD, &ACCUMULATE, &COPY, &FILL, &SCALE];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { len, value })];

/// `out = a + b`. Bindings: `a[len]`, `b[len]`, `out[len]`.
pub fn add(params: Params) -> Call {
    Call::new(&ADD, &params, fold_elements(params.len.into()))
}

/// `out += a`. Bindings: `a[len]`, `out[len]`.
pub fn accumulate(params: Params) -> Call {
    Call::new(&ACCUMULATE, &params, fold_elements(params.len.into()))
}

/// `out = a`. Bindings: `a[len]`, `out[len]`.
pub fn copy(params: Params) -> Call {
    Call::new(&COPY, &params, fold_elements(params.len.into()))
}

/// `out = value`. Bindings: `out[len]`.
pub fn fill(params: Params) -> Call {
    Call::new(&FILL, &params, fold_elements(params.len.into()))
}

/// `out *= value`. Bindings: `out[len]`.
pub fn scale(params: Params) -> Call {
    Call::new(&SCALE, &params, fold_elements(params.len.into()))
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
