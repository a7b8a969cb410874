//! Products with a frozen weight and the low-rank updates on it.

use loam_shaders::matmul::{self as kernels, Params, VECTOR_TOKENS, low_rank};

use super::dense::{self, LowRank, Scaled};
use crate::plan::{Recorder, Tensor, Weight, WeightPart};

/// y = x Wᵀ plus `updates`: [T, w.cols] -> y [T, w.rows]. Backward: dx = dy W through the quantised weight plus what
/// comes through the updates, and the gradients of those; never a dW.
///
/// # Panics
/// If `x` does not have `w.cols` columns.
pub fn matmul(r: &mut Recorder, x: Tensor, w: &Weight, updates: &[LowRank], y: Tensor) {
    let projected = forward(r, x, (w, updates), y);
    if r.needs_gradient(x) || updates.iter().any(|l| l.gradients.is_some()) {
        let (w, updates) = (w.clone(), updates.to_vec());
        r.backward(y, move |r, g| {
            let Some(dy) = g.take(y) else { return };
            let dx = r.needs_gradient(x).then(|| g.target(r, x));
            backward(r, (x, &projected), dy, (&w, &updates), dx);
        });
    }
}

/// Records y = x Wᵀ plus `updates`, the first of them in the same pass where there is a kernel for it. Returns what
/// each update makes of x: [`dense::low_rank_forward`].
fn forward(r: &mut Recorder, x: Tensor, (w, updates): (&Weight, &[LowRank]), y: Tensor) -> Vec<Tensor> {
    assert_eq!(x.cols, w.cols, "{}: input width", w.name);
    let projected: Vec<Tensor> = updates.iter().map(|l| dense::low_rank_forward(r, &w.name, x, *l)).collect();
    let many = r.fuses_updates() && x.rows > VECTOR_TOKENS as usize;
    let fused = updates.first().zip(projected.first()).filter(|(l, _)| many && low_rank::has_kernel(l.b.cols));
    for part in &w.parts {
        let p = params(x.rows, w, part, false);
        let [x, part, y] = [x.view(), part.view(), y.view()];
        match fused {
            None => r.call(&w.name, kernels::forward(p), &[x, part, y]),
            Some((l, u)) => {
                let p = Params { rank: u.cols as u32, ..p };
                r.call(&w.name, low_rank::forward(p), &[x, part, y, u.view(), l.b.view()]);
            }
        }
    }
    for (l, u) in updates.iter().zip(&projected).skip(usize::from(fused.is_some())) {
        dense::up_projection(r, &w.name, Scaled { tensor: *u, factor: 1.0 }, y, *l);
    }
    projected
}

/// With what [`forward`] returned for x and the gradient `dy` of y: the gradients of the updates, and dx (+)= dy W plus
/// what comes through the updates if `dx` says where, again the first of them in the same pass.
fn backward(
    r: &mut Recorder,
    (x, projected): (Tensor, &[Tensor]),
    dy: Tensor,
    (w, updates): (&Weight, &[LowRank]),
    dx: Option<(Tensor, bool)>,
) {
    assert_eq!(dy.cols, w.rows, "{}: gradient width", w.name);
    let pairs = updates.iter().zip(projected);
    let dus: Vec<Tensor> = pairs.map(|(l, u)| dense::low_rank_backward(r, &w.name, (x, *u), dy, *l)).collect();
    let Some((dx, add)) = dx else { return };
    // A mask comes between du A and dx.
    let unmasked = |l: &LowRank| l.dropout.is_none() && low_rank::has_kernel(l.b.cols);
    let fused = updates.first().zip(dus.first()).filter(|(l, _)| r.fuses_updates() && unmasked(l));
    for (i, part) in w.parts.iter().enumerate() {
        let p = params(dy.rows, w, part, add || i > 0);
        let [dy, part, dx] = [dy.view(), part.view(), dx.view()];
        match fused.filter(|_| i == 0) {
            None => r.call(&w.name, kernels::transposed(p), &[dy, part, dx]),
            Some((l, du)) => {
                let p = Params { rank: du.cols as u32, ..p };
                r.call(&w.name, low_rank::transposed(p), &[dy, part, dx, du.view(), l.a.view()]);
            }
        }
    }
    for (l, du) in updates.iter().zip(&dus).skip(usize::from(fused.is_some())) {
        dense::low_rank_input(r, &w.name, *du, *l, (dx, true));
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
