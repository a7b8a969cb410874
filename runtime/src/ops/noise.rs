//! Noise on the rows of a tensor.

use loam_shaders::noise::{self as kernels, Params};

use super::dropout::fours;
use crate::plan::{Recorder, Tensor, View};

/// Noise on rows.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// One magnitude for each row, `f32[rows]`.
    pub magnitudes: View,
    /// How many rows are a row of the batch: what is drawn for it depends on its number in the step.
    pub context: u32,
}

/// x += magnitudes * u in place, u uniform in [-1, 1). Noise is no function of x: the gradient passes unchanged.
pub fn add(r: &mut Recorder, label: &str, noise: Noise, x: Tensor) {
    let row = fours(noise.context, x);
    let params = Params { row, rows: x.rows as u32, width: x.cols as u32, ..bytemuck::Zeroable::zeroed() };
    r.call(label, kernels::add(params), &[noise.magnitudes, x.view()]);
}
