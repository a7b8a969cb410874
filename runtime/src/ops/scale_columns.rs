//! Columns times learned factors.

use loam_shaders::scale_columns::{self as kernels, Params};

use crate::plan::{Recorder, Tensor};

/// Learned factors of columns.
#[derive(Debug, Clone, Copy)]
pub struct Scales {
    /// One for each column, [1, width].
    pub value: Tensor,
    /// How much they count: a column is multiplied by `strength * value + (1 - strength)`.
    pub strength: f32,
    /// Their gradient, added to. `None`: they are frozen.
    pub gradient: Option<Tensor>,
}

/// y = x with every column times its factor, [T, width]. Backward: dx = dy times the factors, and
/// dvalue += strength * the sum of dy * x over the rows.
///
/// # Panics
/// If there are not as many factors as columns.
pub fn scale_columns(r: &mut Recorder, label: &str, x: Tensor, scales: Scales) -> Tensor {
    let Scales { value, strength, gradient } = scales;
    assert_eq!(value.len(), x.cols, "{label}: factors");
    let params = Params { rows: x.rows as u32, width: x.cols as u32, strength, accumulate: 0 };
    let y = r.temporary(x.rows, x.cols);
    r.call(label, kernels::apply(params), &[x.view(), value.view(), y.view()]);
    if r.needs_gradient(x) || gradient.is_some() {
        let label = label.to_owned();
        r.backward(y, move |r, g| {
            let Some(dy) = g.take(y) else { return };
            if let Some(gradient) = gradient {
                r.call(&label, kernels::gradient(params), &[x.view(), dy.view(), gradient.view()]);
            }
            if r.needs_gradient(x) {
                let (dx, add) = g.target(r, x);
                let params = Params { accumulate: add.into(), ..params };
                r.call(&label, kernels::apply(params), &[dy.view(), value.view(), dx.view()]);
            }
        });
    }
    y
}
