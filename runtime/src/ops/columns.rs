//! Columns of a wide matrix as tensors of their own: the parts of fused projections.

use loam_shaders::columns::{self as kernels, Params};

use super::elementwise;
use crate::plan::{Recorder, Tensor};

/// Copies of the columns of `x` [T, sum of widths], side by side: tensors [T, width]. Each may be changed in place.
/// Backward: each part's gradient is written once, into its columns of one dense gradient of `x`.
///
/// # Panics
/// If the widths do not add up to the columns of `x`.
pub fn split(r: &mut Recorder, label: &str, x: Tensor, widths: &[usize]) -> Vec<Tensor> {
    assert_eq!(widths.iter().sum::<usize>(), x.cols, "{label}: widths of a split");
    let mut start = 0;
    let parts: Vec<(Tensor, Params)> = widths
        .iter()
        .map(|&width| {
            let params = params(x, start, width);
            start += width;
            let out = r.temporary(x.rows, width);
            r.call(label, kernels::copy(params), &[x.view(), out.view()]);
            (out, params)
        })
        .collect();
    let outs: Vec<Tensor> = parts.iter().map(|(out, _)| *out).collect();
    if r.needs_gradient(x) {
        let label = label.to_owned();
        r.backward_of(&outs, move |r, g| {
            let parts: Vec<_> = parts.into_iter().map(|(out, params)| (g.take(out), params)).collect();
            if parts.iter().all(|(gradient, _)| gradient.is_none()) {
                return;
            }
            let (dx, add) = g.target(r, x);
            if !add && parts.iter().any(|(gradient, _)| gradient.is_none()) {
                elementwise::fill(r, &label, dx, 0.0);
            }
            for (gradient, params) in parts {
                let Some(gradient) = gradient else { continue };
                let call = kernels::put(Params { accumulate: add.into(), ..params });
                r.call(&label, call, &[gradient.view(), dx.view()]);
            }
        });
    }
    outs
}

fn params(x: Tensor, start: usize, width: usize) -> Params {
    Params {
        rows: x.rows as u32,
        width: width as u32,
        start: start as u32,
        stride: x.cols as u32,
        ..bytemuck::Zeroable::zeroed()
    }
}
