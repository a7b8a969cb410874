//! Token embedding: a row of the weight per token.

use loam_shaders::embed::{self as kernels, Params};

use crate::plan::{Recorder, Tensor, View, Weight};

/// Rows of `w` for `tokens` `u32[count]`, times `scale` -> [count, w.cols].
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
