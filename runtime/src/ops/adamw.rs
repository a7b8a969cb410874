//! AdamW over a part of the trained parameters.

use loam_shaders::adamw::{self as kernels, Params};

use super::gradient_norm::Part;
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

/// One step with the first moments `m` and the second moments `v`, each f32 for all trained parameters.
pub fn update(r: &mut Recorder, part: &Part, adamw: AdamW, (m, v): (Tensor, Tensor)) {
    let AdamW { beta1, beta2, eps, weight_decay } = adamw;
    let (len, lr_factor) = (part.len as u32, part.lr_factor);
    let params = Params { len, beta1, beta2, eps, weight_decay, lr_factor, ..bytemuck::Zeroable::zeroed() };
    let operands = [part.parameters, part.gradients, part.state(m, 1), part.state(v, 1), part.norm];
    r.call("adamw", kernels::update(params), &operands);
}
