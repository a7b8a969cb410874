//! Stochastic gradient descent on clipped gradients, plain or with momentum.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::gradient_norm::clip_scale;
use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::{Step, source};

/// Uniform of both kernels.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Parameters.
    pub len: u32,
    /// Share of the last direction that stays (`momentum` only).
    pub momentum: f32,
    /// Decoupled weight decay per unit of learning rate.
    pub weight_decay: f32,
    /// Factor on the step's learning rate.
    pub lr_factor: f32,
}

static UPDATE: Kernel = Kernel::new(&source::SGD_UPDATE, update_reference).with_cpu(cpu::update);
static MOMENTUM: Kernel = Kernel::new(&source::SGD_MOMENTUM, momentum_reference).with_cpu(cpu::momentum);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&UPDATE, &MOMENTUM];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { len, momentum, weight_decay, lr_factor })];

/// One step without momentum: `w = (1 - lr weight_decay) w - lr g`, which is `torch.optim.SGD`. A norm that is not
/// finite leaves everything unchanged.
///
/// Bindings: `params[len]`, `grads[len]`, `norm[1]`.
pub fn update(params: Params) -> Call {
    Call::new(&UPDATE, &params, fold_elements(params.len.into()))
}

/// One step with momentum: `m = momentum m + g`, `w = (1 - lr weight_decay) w - lr m`: `torch.optim.SGD(momentum)`, but
/// that the weight decay is decoupled from the momentum (SGDW, Loshchilov & Hutter 2019, algorithm 1).
///
/// Bindings: `params[len]`, `grads[len]`, `norm[1]`, `m[len]`.
pub fn momentum(params: Params) -> Call {
    Call::new(&MOMENTUM, &params, fold_elements(params.len.into()))
}

fn update_reference(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, norm] = operands(bound);
    let Some(scale) = clip_scale(step, norm.f32()[0]) else { return };
    let lr = f64::from(step.lr) * f64::from(p.lr_factor);
    for (weight, gradient) in weights.f32_mut()[..p.len as usize].iter_mut().zip(grads.f32()) {
        let gradient = f64::from(*gradient) * f64::from(scale);
        *weight = (f64::from(*weight) * (1.0 - lr * f64::from(p.weight_decay)) - lr * gradient) as f32;
    }
}

fn momentum_reference(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, norm, m] = operands(bound);
    let Some(scale) = clip_scale(step, norm.f32()[0]) else { return };
    let lr = f64::from(step.lr) * f64::from(p.lr_factor);
    let (weights, grads, m) = (weights.f32_mut(), grads.f32(), m.f32_mut());
    for i in 0..p.len as usize {
        let moved = f64::from(p.momentum) * f64::from(m[i]) + f64::from(grads[i]) * f64::from(scale);
        weights[i] = (f64::from(weights[i]) * (1.0 - lr * f64::from(p.weight_decay)) - lr * moved) as f32;
        m[i] = moved as f32;
    }
}
