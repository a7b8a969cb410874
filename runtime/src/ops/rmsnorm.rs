//! Root-mean-square normalisation with a frozen weight.

use loam_shaders::rmsnorm::{self as kernels, Params};

use crate::plan::{Recorder, Tensor};

/// y = x / rms(x) * weight over rows of `weight.len()` values (Zhang & Sennrich 2019). `x` may hold several such rows
/// per token (per-head norms).
pub fn rmsnorm(r: &mut Recorder, label: &str, x: Tensor, weight: Tensor, eps: f32) -> Tensor {
    let width = weight.len();
    assert_eq!(x.len() % width, 0, "{label}: width of a norm");
    let params =
        move |add: bool| Params { rows: (x.len() / width) as u32, width: width as u32, accumulate: add.into(), eps };
    let y = r.temporary(x.rows, x.cols);
    r.call(label, kernels::forward(params(false)), &[x.view(), weight.view(), y.view()]);
    if r.needs_gradient(x) {
        let label = label.to_owned();
        r.backward(y, move |r, g| {
            let Some(dy) = g.take(y) else { return };
            let (dx, add) = g.target(r, x);
            r.call(&label, kernels::backward(params(add)), &[x.view(), weight.view(), dy.view(), dx.view()]);
        });
    }
    y
}
