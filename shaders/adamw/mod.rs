//! AdamW (Loshchilov & Hutter 2019) on gradients clipped by their global norm, all on the device.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::gradient_norm::clip_scale;
use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::{Step, source};

/// Uniform of the kernel.
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
    /// Factor on the step's learning rate.
    pub lr_factor: f32,
    /// Zero.
    pub pad: [u32; 2],
}

static UPDATE: Kernel = Kernel::new(&source::ADAMW_UPDATE, update_reference).with_cpu(cpu::update);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&UPDATE];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { len, beta1, beta2, eps, weight_decay, lr_factor })];

/// One step as PyTorch's `torch.optim.AdamW` does it, after `clip_grad_norm_`, with the learning rate, the bias
/// corrections and the clipping norm of [`Step`]. A norm that is not finite leaves everything unchanged.
///
/// Bindings: `params[len]`, `grads[len]`, `m[len]`, `v[len]`, `norm[1]`.
pub fn update(params: Params) -> Call {
    Call::new(&UPDATE, &params, fold_elements(params.len.into()))
}

fn update_reference(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, m, v, norm] = operands(bound);
    let Some(scale) = clip_scale(step, norm.f32()[0]) else { return };
    let (weights, grads, m, v) = (weights.f32_mut(), grads.f32(), m.f32_mut(), v.f32_mut());
    let (beta1, beta2, scale) = (f64::from(p.beta1), f64::from(p.beta2), f64::from(scale));
    let lr = f64::from(step.lr) * f64::from(p.lr_factor);
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
