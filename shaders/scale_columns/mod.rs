//! Every column of a matrix times a learned factor of its own (IA3, Liu et al. 2022), and the gradient of the factors.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold, fold_elements, layout, operands, params};
use crate::{Step, source};

/// Uniform of all kernels of this op.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Rows of x.
    pub rows: u32,
    /// Columns of x.
    pub width: u32,
    /// How much the scales count: a column's factor is `strength * scale + (1 - strength)`.
    pub strength: f32,
    /// 1: `apply` adds to what is there. `gradient` always does.
    pub accumulate: u32,
}

static APPLY: Kernel = Kernel::new(&source::SCALE_COLUMNS_APPLY, apply_reference).with_cpu(cpu::apply);
static GRADIENT: Kernel = Kernel::new(&source::SCALE_COLUMNS_GRADIENT, gradient_reference).with_cpu(cpu::gradient);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&APPLY, &GRADIENT];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { rows, width, strength, accumulate })];

/// `out[t, c] (+)= x[t, c] * factor(c)`: the forward pass, and with the gradient of `out` as `x` that of `x`.
/// Bindings: `x[rows, width]`, `scales[width]`, `out[rows, width]`.
pub fn apply(params: Params) -> Call {
    Call::new(&APPLY, &params, fold_elements(u64::from(params.rows) * u64::from(params.width)))
}

/// `dscales[c] += strength * (dout[0, c] * x[0, c] + dout[1, c] * x[1, c] + ..)`.
/// Bindings: `x[rows, width]`, `dout[rows, width]`, `dscales[width]`.
pub fn gradient(params: Params) -> Call {
    Call::new(&GRADIENT, &params, fold(params.width.div_ceil(32).into()))
}

fn apply_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, scales, out] = operands(bound);
    let (x, scales, out) = (x.f32(), scales.f32(), out.f32_mut());
    let width = p.width as usize;
    for i in 0..p.rows as usize * width {
        let value = x[i] * (p.strength * scales[i % width] + (1.0 - p.strength));
        out[i] = if p.accumulate == 1 { out[i] + value } else { value };
    }
}

fn gradient_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, dout, dscales] = operands(bound);
    let (x, dout, dscales) = (x.f32(), dout.f32(), dscales.f32_mut());
    let width = p.width as usize;
    for (c, dscale) in dscales[..width].iter_mut().enumerate() {
        let product = |t: usize| f64::from(dout[t * width + c]) * f64::from(x[t * width + c]);
        *dscale += (f64::from(p.strength) * (0..p.rows as usize).map(product).sum::<f64>()) as f32;
    }
}
