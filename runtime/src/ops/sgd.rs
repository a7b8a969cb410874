//! Stochastic gradient descent over a part of the trained parameters.

use loam_shaders::sgd::{self as kernels, Params};

use super::gradient_norm::Part;
use crate::plan::{Recorder, Tensor};

/// SGD's constants, with PyTorch's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sgd {
    /// Share of the last direction that stays; 0 takes no state.
    pub momentum: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

/// One step, with a momentum `m` (f32 for all trained parameters) if there is one.
pub fn update(r: &mut Recorder, part: &Part, sgd: Sgd, m: Option<Tensor>) {
    let Sgd { momentum, weight_decay } = sgd;
    let params = Params { len: part.len as u32, momentum, weight_decay, lr_factor: part.lr_factor };
    let mut operands = vec![part.parameters, part.gradients, part.norm];
    operands.extend(m.map(|m| part.state(m, 1)));
    let call = if m.is_some() { kernels::momentum(params) } else { kernels::update(params) };
    r.call("sgd", call, &operands);
}
