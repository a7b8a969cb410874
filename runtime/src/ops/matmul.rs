//! Products with a frozen weight.

use loam_shaders::matmul::{self as kernels, Params};

use crate::model::{Weight, WeightPart};
use crate::plan::{Recorder, Tensor};

/// y = x Wᵀ: [T, w.cols] -> [T, w.rows]. Backward: dx = dy W through the quantised weight; never a dW.
///
/// # Panics
/// If `x` does not have `w.cols` columns.
pub fn matmul(r: &mut Recorder, x: Tensor, w: &Weight) -> Tensor {
    let y = r.temporary(x.rows, w.rows);
    forward(r, x, w, y);
    if r.needs_gradient(x) {
        let w = w.clone();
        r.backward(y, move |r, g| {
            let Some(dy) = g.take(y) else { return };
            let (dx, add) = g.target(r, x);
            transposed(r, dy, &w, dx, add);
        });
    }
    y
}

/// Records y = x Wᵀ, one node per part of the weight.
pub fn forward(r: &mut Recorder, x: Tensor, w: &Weight, y: Tensor) {
    assert_eq!(x.cols, w.cols, "{}: input width", w.name);
    for part in &w.parts {
        let call = kernels::forward(params(x.rows, w, part, false));
        r.call(&w.name, call, &[x.view(), part.view(), y.view()]);
    }
}

/// Records dx (+)= dy W, one node per part of the weight.
pub fn transposed(r: &mut Recorder, dy: Tensor, w: &Weight, dx: Tensor, add: bool) {
    assert_eq!(dy.cols, w.rows, "{}: gradient width", w.name);
    for (i, part) in w.parts.iter().enumerate() {
        let call = kernels::transposed(params(dy.rows, w, part, add || i > 0));
        r.call(&w.name, call, &[dy.view(), part.view(), dx.view()]);
    }
}

fn params(tokens: usize, w: &Weight, part: &WeightPart, accumulate: bool) -> Params {
    Params {
        tokens: tokens as u32,
        inner: w.cols as u32,
        row0: part.row0 as u32,
        rows: part.rows as u32,
        stride: w.rows as u32,
        accumulate: accumulate.into(),
        format: w.format.ggml_id(),
        ..bytemuck::Zeroable::zeroed()
    }
}
