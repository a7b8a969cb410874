//! Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2) on clipped gradients.

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
    /// Share of the momentum in the direction of a step.
    pub beta1: f32,
    /// Decay of the momentum.
    pub beta2: f32,
    /// Decoupled weight decay per unit of learning rate.
    pub weight_decay: f32,
    /// Factor on the step's learning rate.
    pub lr_factor: f32,
    /// Zero.
    pub pad: [u32; 3],
}

static UPDATE: Kernel = Kernel::new(&source::LION_UPDATE, update_reference).with_cpu(cpu::update);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&UPDATE];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { len, beta1, beta2, weight_decay, lr_factor })];

/// One step: `w = (1 - lr weight_decay) w - lr sign(beta1 m + (1 - beta1) g)`, then `m = beta2 m + (1 - beta2) g`,
/// where the sign of 0 is 0. A norm that is not finite leaves everything unchanged.
///
/// Bindings: `params[len]`, `grads[len]`, `m[len]`, `norm[1]`.
pub fn update(params: Params) -> Call {
    Call::new(&UPDATE, &params, fold_elements(params.len.into()))
}

fn update_reference(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, m, norm] = operands(bound);
    let Some(scale) = clip_scale(step, norm.f32()[0]) else { return };
    let (weights, grads, m) = (weights.f32_mut(), grads.f32(), m.f32_mut());
    let (beta1, beta2, scale) = (f64::from(p.beta1), f64::from(p.beta2), f64::from(scale));
    let lr = f64::from(step.lr) * f64::from(p.lr_factor);
    for i in 0..p.len as usize {
        let (gradient, momentum) = (f64::from(grads[i]) * scale, f64::from(m[i]));
        let direction = beta1 * momentum + (1.0 - beta1) * gradient;
        let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
        weights[i] = (f64::from(weights[i]) * (1.0 - lr * f64::from(p.weight_decay)) - lr * sign) as f32;
        m[i] = (beta2 * momentum + (1.0 - beta2) * gradient) as f32;
    }
}
