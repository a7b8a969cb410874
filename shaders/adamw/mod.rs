//! AdamW (Loshchilov & Hutter 2019) with clipping by the global gradient norm, all on the device.
//!
//! The norm takes two kernels: `norm_partial` sums squares by chunks, `norm_final` adds the chunks in a fixed order.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold, fold_elements, layout, operands, params};
use crate::{Step, source};

/// Uniform of `adamw_update`.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Parameters.
    pub len: u32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay per unit of learning rate.
    pub weight_decay: f32,
    /// Zero.
    pub pad: [u32; 3],
}

/// Uniform of `adamw_norm_partial` and `adamw_norm_final`.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct NormParams {
    /// Gradients (`norm_partial` only).
    pub len: u32,
    /// Chunks. `norm_partial` cuts the gradients into this many of `len.div_ceil(partials)` elements.
    pub partials: u32,
    /// Zero.
    pub pad: [u32; 2],
}

static UPDATE: Kernel = Kernel::new(&source::ADAMW_UPDATE, update_reference).with_cpu(cpu::update);
static NORM_PARTIAL: Kernel =
    Kernel::new(&source::ADAMW_NORM_PARTIAL, norm_partial_reference).with_cpu(cpu::norm_partial);
static NORM_FINAL: Kernel = Kernel::new(&source::ADAMW_NORM_FINAL, norm_final_reference);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&UPDATE, &NORM_PARTIAL, &NORM_FINAL];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] =
    &[layout!(Params { len, beta1, beta2, eps, weight_decay }), layout!(NormParams { len, partials })];

/// One step as PyTorch's `torch.optim.AdamW` does it, after `clip_grad_norm_`, with the learning rate, the bias
/// corrections and the clipping norm of [`Step`]. A norm that is not finite leaves everything unchanged.
///
/// Bindings: `params[len]`, `grads[len]`, `m[len]`, `v[len]`, `norm[1]`.
pub fn update(params: Params) -> Call {
    Call::new(&UPDATE, &params, fold_elements(params.len.into()))
}

/// A good number of chunks for `len` gradients: of 4096 elements, at most 1024 chunks. Depends on nothing else, so
/// that the order of summation does not depend on the device.
pub const fn partials(len: u32) -> u32 {
    match len.div_ceil(4096) {
        0 => 1,
        chunks if chunks > 1024 => 1024,
        chunks => chunks,
    }
}

/// Sums of squares by chunk. Bindings: `grads[len]`, `partials[partials]`.
pub fn norm_partial(params: NormParams) -> Call {
    Call::new(&NORM_PARTIAL, &params, fold(params.partials.into()))
}

/// Root of the sum of the chunks. Bindings: `partials[partials]`, `norm[1]`.
pub fn norm_final(params: NormParams) -> Call {
    Call::new(&NORM_FINAL, &params, [1, 1, 1])
}

fn update_reference(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, m, v, norm] = operands(bound);
    let norm = f64::from(norm.f32()[0]);
    if !norm.is_finite() {
        return;
    }
    let (weights, grads, m, v) = (weights.f32_mut(), grads.f32(), m.f32_mut(), v.f32_mut());
    let (beta1, beta2, lr, clip) = (f64::from(p.beta1), f64::from(p.beta2), f64::from(step.lr), f64::from(step.clip));
    let scale = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
    for i in 0..p.len as usize {
        let gradient = f64::from(grads[i]) * scale;
        let first = beta1 * f64::from(m[i]) + (1.0 - beta1) * gradient;
        let second = beta2 * f64::from(v[i]) + (1.0 - beta2) * gradient * gradient;
        let root = (second / f64::from(step.correction2)).sqrt() + f64::from(p.eps);
        let decayed = f64::from(weights[i]) * (1.0 - lr * f64::from(p.weight_decay));
        weights[i] = (decayed - lr * (first / f64::from(step.correction1)) / root) as f32;
        m[i] = first as f32;
        v[i] = second as f32;
    }
}

fn norm_partial_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: NormParams = params(bytes);
    let [grads, partials] = operands(bound);
    let (grads, partials) = (&grads.f32()[..p.len as usize], partials.f32_mut());
    let mut chunks = grads.chunks(p.len.div_ceil(p.partials).max(1) as usize);
    for partial in &mut partials[..p.partials as usize] {
        let chunk = chunks.next().unwrap_or(&[]);
        *partial = chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>() as f32;
    }
}

fn norm_final_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: NormParams = params(bytes);
    let [partials, norm] = operands(bound);
    let sum: f64 = partials.f32()[..p.partials as usize].iter().map(|&x| f64::from(x)).sum();
    norm.f32_mut()[0] = sum.sqrt() as f32;
}
