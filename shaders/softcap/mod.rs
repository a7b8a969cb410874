//! Soft-capping of scores and logits (Gemma 2, section 2): `y = cap * tanh(x / cap)`, in place.
//!
//! Attention and the training loss cap inside of their own kernels, by the functions here and in
//! `include/softcap.wgsl`. There a cap of 0 stands for none.

pub(crate) mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::{Step, source};

/// Uniform of both kernels.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Elements of every binding.
    pub len: u32,
    /// No result is larger than this.
    pub cap: f32,
    /// Zero.
    pub pad: [u32; 2],
}

static FORWARD: Kernel = Kernel::new(&source::SOFTCAP_FORWARD, forward_reference).with_cpu(cpu::forward);
static BACKWARD: Kernel = Kernel::new(&source::SOFTCAP_BACKWARD, backward_reference).with_cpu(cpu::backward);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { len, cap })];

/// `x = cap * tanh(x / cap)`. Bindings: `x[len]` in place.
pub fn forward(params: Params) -> Call {
    Call::new(&FORWARD, &params, fold_elements(params.len.into()))
}

/// `dx *= 1 - (y / cap)^2`. Bindings: `y[len]` as [`forward`] left it, `dx[len]` in place.
pub fn backward(params: Params) -> Call {
    Call::new(&BACKWARD, &params, fold_elements(params.len.into()))
}

/// `cap * tanh(x / cap)`, or `x` if the cap is 0.
pub(crate) fn capped(x: f64, cap: f32) -> f64 {
    let cap = f64::from(cap);
    if cap == 0.0 { x } else { cap * (x / cap).tanh() }
}

/// The derivative of [`capped`] where it has this value.
pub(crate) fn slope(value: f64, cap: f32) -> f64 {
    if cap == 0.0 { 1.0 } else { 1.0 - (value / f64::from(cap)).powi(2) }
}

fn forward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x] = operands(bound);
    for x in &mut x.f32_mut()[..p.len as usize] {
        *x = capped(f64::from(*x), p.cap) as f32;
    }
}

fn backward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [y, dx] = operands(bound);
    for (dx, &y) in dx.f32_mut()[..p.len as usize].iter_mut().zip(y.f32()) {
        *dx = (f64::from(*dx) * slope(f64::from(y), p.cap)) as f32;
    }
}
