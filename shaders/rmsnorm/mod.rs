//! Root mean square normalisation (Zhang & Sennrich 2019): `y = x * weight / sqrt(mean(x^2) + eps)` for every row.
//!
//! The weight is frozen, so there is no weight gradient. `backward` recomputes the root mean square from `x`:
//! cheaper than a saved buffer that a checkpointed layer would have to recompute anyway.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold, layout, operands, params};
use crate::{Step, source};

/// Uniform of both kernels.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Rows of `x`.
    pub rows: u32,
    /// Columns of `x` and length of `weight`.
    pub width: u32,
    /// `backward` only. 1: add to `dx`; 0: overwrite it.
    pub accumulate: u32,
    /// Added to the mean square.
    pub eps: f32,
}

static FORWARD: Kernel = Kernel::new(&source::RMSNORM_FORWARD, forward_reference).with_cpu(cpu::forward);
static BACKWARD: Kernel = Kernel::new(&source::RMSNORM_BACKWARD, backward_reference).with_cpu(cpu::backward);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { rows, width, accumulate, eps })];

/// Bindings: `x[rows, width]`, `weight[width]`, `y[rows, width]`.
pub fn forward(params: Params) -> Call {
    Call::new(&FORWARD, &params, fold(params.rows.into()))
}

/// Bindings: `x[rows, width]`, `weight[width]`, `dy[rows, width]`, `dx[rows, width]`.
pub fn backward(params: Params) -> Call {
    Call::new(&BACKWARD, &params, fold(params.rows.into()))
}

/// 1 / sqrt(mean(x^2) + eps)
fn inverse_rms(x: &[f32], eps: f32) -> f64 {
    let squares: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    (squares / x.len() as f64 + f64::from(eps)).sqrt().recip()
}

fn forward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, y] = operands(bound);
    let (x, weight, y) = (x.f32(), weight.f32(), y.f32_mut());
    let width = p.width as usize;
    for row in 0..p.rows as usize {
        let at = row * width..(row + 1) * width;
        let inverse = inverse_rms(&x[at.clone()], p.eps);
        for ((y, &x), &w) in y[at.clone()].iter_mut().zip(&x[at]).zip(weight) {
            *y = (f64::from(x) * inverse * f64::from(w)) as f32;
        }
    }
}

/// With `r` = 1/rms: `dx = r * w * dy - x * r^3 / width * sum(w * dy * x)`.
fn backward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, dy, dx] = operands(bound);
    let (x, weight, dy, dx) = (x.f32(), weight.f32(), dy.f32(), dx.f32_mut());
    let width = p.width as usize;
    for row in 0..p.rows as usize {
        let at = row * width..(row + 1) * width;
        let (x, dy, dx) = (&x[at.clone()], &dy[at.clone()], &mut dx[at]);
        let inverse = inverse_rms(x, p.eps);
        let weighted = |i: usize| f64::from(weight[i]) * f64::from(dy[i]);
        let dot: f64 = (0..width).map(|i| weighted(i) * f64::from(x[i])).sum();
        let pull = inverse.powi(3) * dot / width as f64;
        for i in 0..width {
            let kept = if p.accumulate != 0 { f64::from(dx[i]) } else { 0.0 };
            dx[i] = (kept + inverse * weighted(i) - f64::from(x[i]) * pull) as f32;
        }
    }
}
