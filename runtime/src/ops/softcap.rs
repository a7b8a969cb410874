//! Soft-capping of logits.

use loam_shaders::softcap::{self as kernels, Params};

use crate::plan::{Recorder, Tensor};

/// x = cap * tanh(x / cap) in place (Gemma 2, section 2); returns `x`. Attention and the chunked loss cap inside of
/// their own kernels: this one is for logits that are shown.
pub fn softcap(r: &mut Recorder, label: &str, x: Tensor, cap: f32) -> Tensor {
    let params = Params { len: x.len() as u32, cap, ..bytemuck::Zeroable::zeroed() };
    r.call(label, kernels::forward(params), &[x.view()]);
    if r.needs_gradient(x) {
        let label = label.to_owned();
        r.backward(x, move |r, g| {
            if g.get(x).is_some() {
                let dx = g.exclusive(r, x);
                r.call(&label, kernels::backward(params), &[x.view(), dx.view()]);
            }
        });
    }
    x
}
