//! Strided f32 products, and the low-rank update made of them.

use loam_shaders::dense::{self as kernels, Params};

use super::dropout::Dropout;
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

/// y += bias [1, out] in every row: the product of a column of ones (`one` `f32[1]`, read with strides of 0) and the
/// bias. The bias is frozen, so the gradient of y passes unchanged.
pub fn add_bias(r: &mut Recorder, label: &str, bias: Tensor, one: Tensor, y: Tensor) {
    let (ones, bias) = (Operand { tensor: one, row: 0, col: 0 }, Operand { tensor: bias, row: 0, col: 1 });
    product(r, label, (ones, bias), 1, 1.0, y, true);
}

/// A tensor and the factor that it lacks.
#[derive(Debug, Clone, Copy)]
pub struct Scaled {
    /// What lies in memory.
    pub tensor: Tensor,
    /// What it has to be multiplied by.
    pub factor: f32,
}

/// One low-rank update: A [rank, in], B [out, rank], and where their gradients are summed up when they are trained.
/// On an embedding A is stored as its transpose [tokens, rank], whose rows are looked up like those of the embedding.
#[derive(Debug, Clone, Copy)]
pub struct LowRank {
    /// A, [rank, in]; of an embedding [tokens, rank].
    pub a: Tensor,
    /// B, [out, rank].
    pub b: Tensor,
    /// alpha / rank times the user's scale.
    pub scale: f32,
    /// Gradients of A and B, added to. `None`: the update is frozen.
    pub gradients: Option<(Tensor, Tensor)>,
    /// What is dropped of the input before A (PEFT's `lora_dropout`); an embedding has none.
    pub dropout: Option<Dropout>,
}

/// Records u = scale x Aᵀ, the first half of y += scale (x Aᵀ) Bᵀ (Hu et al. 2021, LoRA, eq. 3); the second is
/// [`up_projection`], whose factor is 1 then. With dropout x stands for what remains of it here and in the other
/// functions; it is made again instead of kept.
pub fn low_rank_forward(r: &mut Recorder, label: &str, x: Tensor, l: LowRank) -> Tensor {
    let u = r.temporary(x.rows, l.a.rows);
    let seen = seen_of(r, label, x, l);
    product(r, label, (Operand::plain(seen), Operand::transposed(l.a)), x.cols, l.scale, u, false);
    u
}

/// Records y += factor u Bᵀ.
pub fn up_projection(r: &mut Recorder, label: &str, u: Scaled, y: Tensor, l: LowRank) {
    product(r, label, (Operand::plain(u.tensor), Operand::transposed(l.b)), u.tensor.cols, u.factor, y, true);
}

/// With u of [`low_rank_forward`] and the gradient `dy` of y: dA += duᵀ x and dB += dyᵀ u, if the update is trained.
/// Returns du = scale dy B; what is left is [`low_rank_input`].
pub fn low_rank_backward(r: &mut Recorder, label: &str, (x, u): (Tensor, Tensor), dy: Tensor, l: LowRank) -> Tensor {
    let du = up_projection_backward(r, label, Scaled { tensor: u, factor: 1.0 }, dy, l);
    if let Some((da, _)) = l.gradients {
        let seen = seen_of(r, label, x, l);
        product(r, label, (Operand::transposed(du), Operand::plain(seen)), x.rows, 1.0, da, true);
    }
    du
}

/// The rest of the backward pass: dx (+)= du A, through the mask of x.
pub fn low_rank_input(r: &mut Recorder, label: &str, du: Tensor, l: LowRank, (dx, add): (Tensor, bool)) {
    let back = (Operand::plain(du), Operand::plain(l.a));
    match l.dropout {
        None => product(r, label, back, du.cols, 1.0, dx, add),
        Some(dropout) => {
            let dseen = r.temporary(dx.rows, dx.cols);
            product(r, label, back, du.cols, 1.0, dseen, false);
            dropout.apply(r, label, dseen, dx, add);
        }
    }
}

/// What A sees of `x`.
fn seen_of(r: &mut Recorder, label: &str, x: Tensor, l: LowRank) -> Tensor {
    l.dropout.map_or(x, |dropout| dropout.applied(r, label, x))
}

/// The half of [`low_rank_backward`] that knows nothing of x: dB += factor dyᵀ u, if it is trained, and
/// du = scale dy B.
pub fn up_projection_backward(r: &mut Recorder, label: &str, u: Scaled, dy: Tensor, l: LowRank) -> Tensor {
    let du = r.temporary(u.tensor.rows, u.tensor.cols);
    product(r, label, (Operand::plain(dy), Operand::plain(l.b)), dy.cols, l.scale, du, false);
    if let Some((_, db)) = l.gradients {
        product(r, label, (Operand::transposed(dy), Operand::plain(u.tensor)), u.tensor.rows, u.factor, db, true);
    }
    du
}
