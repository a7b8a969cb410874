//! AdamW with moments of eight bits over a part of the trained parameters.

use loam_shaders::adamw_8bit::{self as kernels, BLOCK, Params};

use super::adamw::AdamW;
use super::gradient_norm::Part;
use crate::plan::{Recorder, Tensor};

/// The buffers of the moments of all trained parameters.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// Codes of the first moments, u32[len / 4].
    pub m: Tensor,
    /// Codes of the second moments, u32[len / 4].
    pub v: Tensor,
    /// Largest magnitudes of both by block, f32[blocks, 2].
    pub absmax: Tensor,
    /// What the codes mean: [`loam_shaders::adamw_8bit::map`].
    pub map: Tensor,
}

/// Words of the codes of a moment of `len` parameters.
pub fn code_words(len: u64) -> u64 {
    len.div_ceil(4)
}

/// Words of the magnitudes of `len` parameters.
pub fn absmax_words(len: u64) -> u64 {
    2 * len.div_ceil(BLOCK as u64)
}

/// One step.
pub fn update(r: &mut Recorder, part: &Part, adamw: AdamW, moments: Moments) {
    let AdamW { beta1, beta2, eps, weight_decay } = adamw;
    let (len, first_block) = (part.len as u32, (part.first / BLOCK) as u32);
    let params = Params { len, beta1, beta2, eps, weight_decay, lr_factor: part.lr_factor, first_block, pad: 0 };
    let Moments { m, v, absmax, map } = moments;
    // The magnitudes of a range may begin where no device can bind them, so they are bound whole.
    let operands =
        [part.parameters, part.gradients, part.state(m, 4), part.state(v, 4), absmax.view(), part.norm, map.view()];
    r.call("adamw_8bit", kernels::update(params), &operands);
}
