//! Noise on the rows of a tensor.

use loam_shaders::noise::{self as kernels, Params};

use super::dropout::fours;
use crate::plan::{Recorder, Tensor, View};

/// x += magnitudes * u in place, u uniform in [-1, 1), with one magnitude f32[rows] for each row; `context` rows of x are a
/// row of the batch. Noise is no function of x:
/// the gradient passes unchanged.
pub fn add(r: &mut Recorder, label: &str, (magnitudes, context): (View, u32), x: Tensor) {
    let row = fours(context, x);
    let params = Params { row, rows: x.rows as u32, width: x.cols as u32, ..bytemuck::Zeroable::zeroed() };
    r.call(label, kernels::add(params), &[magnitudes, x.view()]);
}
