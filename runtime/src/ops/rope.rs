//! Rotary position embedding, in place.

use loam_shaders::rope::{self as kernels, Params, Style};

use crate::plan::{Recorder, Tensor, View};

/// What all rotations of a model share.
#[derive(Debug, Clone, Copy)]
pub struct Rope {
    /// Positions of the tokens, `u32[T]`.
    pub positions: View,
    /// (cos, sin) per position and pair, f32[context, rotary / 2, 2].
    pub table: View,
    /// Values per head that are rotated.
    pub rotary: usize,
    /// Which dimensions form a pair.
    pub style: Style,
}

/// Rotates every head of `x` [T, heads * head_dim] in place (Su et al. 2021). The gradient is rotated back.
pub fn rope(r: &mut Recorder, label: &str, x: Tensor, heads: usize, rope: Rope) {
    rotate(r, label, x, heads, rope, 1.0);
    if r.needs_gradient(x) {
        let label = label.to_owned();
        r.backward(x, move |r, g| {
            if g.get(x).is_some() {
                let dx = g.exclusive(r, x);
                rotate(r, &label, dx, heads, rope, -1.0);
            }
        });
    }
}

fn rotate(r: &mut Recorder, label: &str, x: Tensor, heads: usize, rope: Rope, sign: f32) {
    let params = Params {
        tokens: x.rows as u32,
        heads: heads as u32,
        head_dim: (x.cols / heads) as u32,
        rotary: rope.rotary as u32,
        style: rope.style as u32,
        sign,
        ..bytemuck::Zeroable::zeroed()
    };
    r.call(label, kernels::rotate(params), &[rope.positions, rope.table, x.view()]);
}
