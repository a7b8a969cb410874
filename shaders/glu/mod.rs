//! Gated linear unit (Shazeer 2020): `out = activation(gate) * up`.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::{Step, source};

/// What the gate goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu = 0,
    /// `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))` (Hendrycks & Gimpel 2016).
    GeluTanh = 1,
}

impl Params {
    /// The activation as an enum; the kernels take every other number for [`Activation::GeluTanh`] too.
    fn activation(&self) -> Activation {
        if self.activation == Activation::Silu as u32 { Activation::Silu } else { Activation::GeluTanh }
    }
}

/// Uniform of both kernels.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Elements of every binding.
    pub len: u32,
    /// An [`Activation`].
    pub activation: u32,
    /// Zero.
    pub pad: [u32; 2],
}

static FORWARD: Kernel = Kernel::new(&source::GLU_FORWARD, forward_reference).with_cpu(cpu::forward);
static BACKWARD: Kernel = Kernel::new(&source::GLU_BACKWARD, backward_reference).with_cpu(cpu::backward);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { len, activation })];

/// Bindings: `gate[len]`, `up[len]`, `out[len]`.
pub fn forward(params: Params) -> Call {
    Call::new(&FORWARD, &params, fold_elements(params.len.into()))
}

/// Bindings: `gate[len]`, `up[len]`, `dout[len]`, `dgate[len]`, `dup[len]`.
pub fn backward(params: Params) -> Call {
    Call::new(&BACKWARD, &params, fold_elements(params.len.into()))
}

/// The activation and its derivative at `x`.
fn activate(activation: Activation, x: f64) -> (f64, f64) {
    if activation == Activation::Silu {
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        return (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)));
    }
    let slope = (2.0 / std::f64::consts::PI).sqrt();
    let tanh = (slope * (x + 0.044715 * x.powi(3))).tanh();
    let inner = slope * (1.0 + 3.0 * 0.044715 * x * x);
    (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner)
}

fn forward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [gate, up, out] = operands(bound);
    let (gate, up, out) = (gate.f32(), up.f32(), out.f32_mut());
    for i in 0..p.len as usize {
        out[i] = (activate(p.activation(), gate[i].into()).0 * f64::from(up[i])) as f32;
    }
}

fn backward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [gate, up, dout, dgate, dup] = operands(bound);
    let (gate, up, dout) = (gate.f32(), up.f32(), dout.f32());
    let (dgate, dup) = (dgate.f32_mut(), dup.f32_mut());
    for i in 0..p.len as usize {
        let (value, derivative) = activate(p.activation(), gate[i].into());
        dgate[i] = (f64::from(dout[i]) * f64::from(up[i]) * derivative) as f32;
        dup[i] = (f64::from(dout[i]) * value) as f32;
    }
}
