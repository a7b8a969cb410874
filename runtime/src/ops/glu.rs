//! Gated linear units.

use loam_shaders::glu::{self as kernels, Activation, Params};

use crate::plan::{Recorder, Tensor};

/// act(gate) * up (Shazeer 2020).
pub fn glu(r: &mut Recorder, label: &str, gate: Tensor, up: Tensor, activation: Activation) -> Tensor {
    let out = r.temporary(gate.rows, gate.cols);
    let params = Params { len: gate.len() as u32, activation: activation as u32, ..bytemuck::Zeroable::zeroed() };
    r.call(label, kernels::forward(params), &[gate.view(), up.view(), out.view()]);
    if r.needs_gradient(gate) || r.needs_gradient(up) {
        let label = label.to_owned();
        r.backward(out, move |r, g| {
            let Some(dout) = g.take(out) else { return };
            let (dgate, dup) = (r.temporary(gate.rows, gate.cols), r.temporary(up.rows, up.cols));
            let bound = [gate.view(), up.view(), dout.view(), dgate.view(), dup.view()];
            r.call(&label, kernels::backward(params), &bound);
            for (x, dx) in [(gate, dgate), (up, dup)] {
                if r.needs_gradient(x) {
                    g.give(r, x, dx);
                }
            }
        });
    }
    out
}
