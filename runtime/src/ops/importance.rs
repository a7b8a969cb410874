//! Column sums of squares of a product's input, of a stack of experts one per expert.

use loam_shaders::importance::{self as kernels, GroupedParams, Params};

use super::moe::Routing;
use crate::plan::{Recorder, Tensor};

/// sums [1, x.cols] = the sum of x^2 over the rows of x [T, cols].
pub fn squares(r: &mut Recorder, label: &str, x: Tensor, sums: Tensor) {
    let params = Params { rows: x.rows as u32, width: x.cols as u32, ..bytemuck::Zeroable::zeroed() };
    r.call(label, kernels::squares(params), &[x.view(), sums.view()]);
}

/// counts u32[1, E] = the pairs of every expert; sums [E, x.cols] = the sum of x^2 over the rows of x [T, cols], or
/// [T * slots, cols] if it has a row per pair, that go through it.
///
/// # Panics
/// If the pairs are not sorted, or shapes do not fit.
pub fn grouped(r: &mut Recorder, label: &str, x: Tensor, routing: &Routing, sums: Tensor, counts: Tensor) {
    let pairs = routing.count(r, label, counts);
    assert_eq!((sums.rows, sums.cols, pairs % x.rows), (counts.cols, x.cols, 0), "{label}: shape");
    let params = GroupedParams {
        experts: sums.rows as u32,
        slots: (pairs / x.rows) as u32,
        width: x.cols as u32,
        ..bytemuck::Zeroable::zeroed()
    };
    let list = routing.list().expect("sorted pairs");
    r.call(label, kernels::grouped(params), &[x.view(), counts.view(), list.view(), sums.view()]);
}
