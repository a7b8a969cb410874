//! Token embedding: a row of the weight per token.

use loam_shaders::embed::{self as kernels, Params};

use super::dense::{self, LowRank};
use super::rows;
use crate::model::Weight;
use crate::plan::{Recorder, Tensor, View};

/// Rows of `w` for `tokens` u32[count], times `scale` -> [count, w.cols].
pub fn embed(r: &mut Recorder, tokens: View, w: &Weight, scale: f32) -> Tensor {
    let out = r.temporary(tokens.words as usize, w.cols);
    for part in &w.parts {
        let params = Params {
            tokens: out.rows as u32,
            width: w.cols as u32,
            row0: part.row0 as u32,
            rows: part.rows as u32,
            format: w.format.ggml_id(),
            scale,
            ..bytemuck::Zeroable::zeroed()
        };
        r.call(&w.name, kernels::forward(w.format, params), &[tokens, part.view(), out.view()]);
    }
    out
}

/// x += l.scale A[tokens] Bᵀ in place, with A [tokens of the vocabulary, rank] and B [x.cols, rank].
///
/// Backward, with u = A[tokens] and du = scale dx B: dB += scale dxᵀ u, and the rows of du are added to those of dA.
pub fn low_rank(r: &mut Recorder, label: &str, tokens: View, x: Tensor, l: LowRank) {
    let u = rows::gather(r, label, tokens, 0, x.rows, l.a);
    dense::raise(r, label, (u, l.scale), x, l);
    if let Some((da, _)) = l.gradients {
        let label = label.to_owned();
        r.backward(x, move |r, g| {
            // Kept: there may be other updates.
            let Some(dx) = g.get(x) else { return };
            let du = dense::lower(r, &label, (u, l.scale), dx, l);
            rows::add(r, &label, tokens, 0, du, da);
        });
    }
}
