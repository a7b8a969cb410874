//! The optimizer step over all adapter parameters at once.

use loam_shaders::adamw::{self as kernels, NormParams, Params};

use super::elementwise;
use crate::plan::{Recorder, Tensor};

/// AdamW's constants (Loshchilov & Hutter 2019), with PyTorch's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// The buffers of all trained parameters, each f32[len].
#[derive(Debug, Clone, Copy)]
pub struct Arenas {
    /// Parameters.
    pub parameters: Tensor,
    /// Summed gradients; zeroed after the update.
    pub gradients: Tensor,
    /// First moments.
    pub m: Tensor,
    /// Second moments.
    pub v: Tensor,
    /// f32[1]: the global gradient norm before clipping.
    pub norm: Tensor,
}

/// Gradient norm, clipping to `step.clip`, AdamW update, and zeroed gradients for the next step.
pub fn update(r: &mut Recorder, arenas: Arenas, adamw: AdamW) {
    let len = arenas.parameters.len() as u32;
    let partials = r.temporary(1, kernels::partials(len) as usize);
    let norm = NormParams { len, partials: partials.cols as u32, ..bytemuck::Zeroable::zeroed() };
    r.call("gradient norm", kernels::norm_partial(norm), &[arenas.gradients.view(), partials.view()]);
    r.call("gradient norm", kernels::norm_final(norm), &[partials.view(), arenas.norm.view()]);
    let AdamW { beta1, beta2, eps, weight_decay } = adamw;
    let params = Params { len, beta1, beta2, eps, weight_decay, ..bytemuck::Zeroable::zeroed() };
    let Arenas { parameters, gradients, m, v, norm } = arenas;
    let bound = [parameters.view(), gradients.view(), m.view(), v.view(), norm.view()];
    r.call("adamw", kernels::update(params), &bound);
    elementwise::fill(r, "gradients", gradients, 0.0);
}
