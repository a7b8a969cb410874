//! Lion over a part of the trained parameters.

use loam_shaders::lion::{self as kernels, Params};

use super::gradient_norm::Part;
use crate::plan::{Recorder, Tensor};

/// Lion's constants (Chen et al. 2023), with the paper's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    /// Share of the momentum in the direction of a step.
    pub beta1: f32,
    /// Decay of the momentum.
    pub beta2: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

impl Default for Lion {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }
    }
}

/// One step with the momentum `m`, f32 for all trained parameters.
pub fn update(r: &mut Recorder, part: &Part, lion: Lion, m: Tensor) {
    let Lion { beta1, beta2, weight_decay } = lion;
    let (len, lr_factor) = (part.len as u32, part.lr_factor);
    let params = Params { len, beta1, beta2, weight_decay, lr_factor, ..bytemuck::Zeroable::zeroed() };
    r.call("lion", kernels::update(params), &[part.parameters, part.gradients, part.state(m, 1), part.norm]);
}
