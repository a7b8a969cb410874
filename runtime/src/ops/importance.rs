//! Column sums of squares of a product's input.

use loam_shaders::importance::{self as kernels, Params};

use crate::plan::{Recorder, Tensor};

/// sums [1, x.cols] = the sum of x^2 over the rows of x [T, cols].
pub fn squares(r: &mut Recorder, label: &str, x: Tensor, sums: Tensor) {
    let params = Params { rows: x.rows as u32, width: x.cols as u32, ..bytemuck::Zeroable::zeroed() };
    r.call(label, kernels::squares(params), &[x.view(), sums.view()]);
}
