//! Strided f32 products, and the low-rank update made of them.

use loam_shaders::dense::{self as kernels, Params};

use crate::plan::{Recorder, Tensor};

/// A matrix as an operand: a tensor read with these strides, in words.
#[derive(Debug, Clone, Copy)]
pub struct Operand {
    /// The values.
    pub tensor: Tensor,
    /// Words from one row of the operand to the next.
    pub row: u32,
    /// Words from one column of the operand to the next.
    pub col: u32,
}

impl Operand {
    /// The tensor as it lies.
    pub fn plain(tensor: Tensor) -> Self {
        Self { tensor, row: tensor.cols as u32, col: 1 }
    }

    /// The tensor's transpose.
    pub fn transposed(tensor: Tensor) -> Self {
        Self { tensor, row: 1, col: tensor.cols as u32 }
    }
}

/// c (+)= alpha a b, where c is [m, n] and the contraction runs over `inner`.
pub fn product(
    r: &mut Recorder,
    label: &str,
    (a, b): (Operand, Operand),
    inner: usize,
    alpha: f32,
    c: Tensor,
    add: bool,
) {
    let params = Params {
        m: c.rows as u32,
        n: c.cols as u32,
        k: inner as u32,
        a_row: a.row,
        a_col: a.col,
        b_row: b.row,
        b_col: b.col,
        accumulate: add.into(),
        alpha,
        ..bytemuck::Zeroable::zeroed()
    };
    r.call(label, kernels::product(params), &[a.tensor.view(), b.tensor.view(), c.view()]);
}

/// y += bias [1, out] in every row: the product of a column of ones (`one` f32[1], read with strides of 0) and the bias.
/// The bias is frozen, so the gradient of y passes unchanged.
pub fn add_bias(r: &mut Recorder, label: &str, bias: Tensor, one: Tensor, y: Tensor) {
    let (ones, bias) = (Operand { tensor: one, row: 0, col: 0 }, Operand { tensor: bias, row: 0, col: 1 });
    product(r, label, (ones, bias), 1, 1.0, y, true);
}

/// One low-rank update: A [rank, in], B [out, rank], and where their gradients are summed up when they are trained.
#[derive(Debug, Clone, Copy)]
pub struct LowRank {
    /// A, [rank, in].
    pub a: Tensor,
    /// B, [out, rank].
    pub b: Tensor,
    /// alpha / rank times the user's scale.
    pub scale: f32,
    /// Gradients of A and B, added to. `None`: the update is frozen.
    pub gradients: Option<(Tensor, Tensor)>,
}

/// y += scale (x Aᵀ) Bᵀ (Hu et al. 2021, LoRA, eq. 3), in place.
///
/// Backward, with u = x Aᵀ and du = scale dy B: dB += scale dyᵀ u, dA += duᵀ x, dx += du A.
pub fn low_rank(r: &mut Recorder, label: &str, x: Tensor, y: Tensor, l: LowRank) {
    let rank = l.a.rows;
    let u = r.temporary(x.rows, rank);
    product(r, label, (Operand::plain(x), Operand::transposed(l.a)), x.cols, 1.0, u, false);
    product(r, label, (Operand::plain(u), Operand::transposed(l.b)), rank, l.scale, y, true);
    if !r.needs_gradient(x) && l.gradients.is_none() {
        return;
    }
    let label = label.to_owned();
    r.backward(y, move |r, g| {
        // Kept, not taken: the product that first wrote y comes later in the walk.
        let Some(dy) = g.get(y) else { return };
        let du = r.temporary(x.rows, rank);
        product(r, &label, (Operand::plain(dy), Operand::plain(l.b)), y.cols, l.scale, du, false);
        if let Some((da, db)) = l.gradients {
            product(r, &label, (Operand::transposed(dy), Operand::plain(u)), x.rows, l.scale, db, true);
            product(r, &label, (Operand::transposed(du), Operand::plain(x)), x.rows, 1.0, da, true);
        }
        if r.needs_gradient(x) {
            let (dx, add) = g.target(r, x);
            product(r, &label, (Operand::plain(du), Operand::plain(l.a)), rank, 1.0, dx, add);
        }
    });
}
