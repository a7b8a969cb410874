//! Sums, copies and fills.

use loam_shaders::elementwise::{self as kernels, Params};

use crate::plan::{Recorder, Tensor};

/// a + b, both [rows, cols]. The gradient of the sum is the gradient of both.
///
/// # Panics
/// If the shapes differ.
pub fn add(r: &mut Recorder, label: &str, a: Tensor, b: Tensor) -> Tensor {
    assert_eq!((a.rows, a.cols), (b.rows, b.cols), "{label}: shapes of a sum");
    let out = r.temporary(a.rows, a.cols);
    r.call(label, kernels::add(params(out, 0.0)), &[a.view(), b.view(), out.view()]);
    if r.needs_gradient(a) || r.needs_gradient(b) {
        r.backward(out, move |r, g| {
            let Some(dout) = g.take(out) else { return };
            for x in [a, b] {
                if r.needs_gradient(x) {
                    g.give(r, x, dout);
                }
            }
        });
    }
    out
}

/// x *= value in place; returns `x`. Nothing is recorded for 1.
pub fn scale(r: &mut Recorder, label: &str, x: Tensor, value: f32) -> Tensor {
    if value == 1.0 {
        return x;
    }
    r.call(label, kernels::scale(params(x, value)), &[x.view()]);
    if r.needs_gradient(x) {
        let label = label.to_owned();
        r.backward(x, move |r, g| {
            if g.get(x).is_some() {
                let dx = g.exclusive(r, x);
                r.call(&label, kernels::scale(params(dx, value)), &[dx.view()]);
            }
        });
    }
    x
}

/// out = a, without a way back.
pub fn copy_to(r: &mut Recorder, label: &str, a: Tensor, out: Tensor) {
    r.call(label, kernels::copy(params(a, 0.0)), &[a.view(), out.view()]);
}

/// out = value.
pub fn fill(r: &mut Recorder, label: &str, out: Tensor, value: f32) {
    r.call(label, kernels::fill(params(out, value)), &[out.view()]);
}

fn params(t: Tensor, value: f32) -> Params {
    Params { len: t.len() as u32, value, ..bytemuck::Zeroable::zeroed() }
}
