//! Rotary position embedding (Su et al. 2021), in place, with the angles' cosines and sines in a table.
//!
//! The backward pass is the rotation by the negative angle: the same kernel with `sign` -1.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::{Step, source};

/// Which dimensions form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Style {
    /// `2i` and `2i + 1` (GGUF llama files, "norm").
    Adjacent = 0,
    /// `i` and `i + rotary/2` (GPT-NeoX, Transformers).
    Halves = 1,
}

/// Uniform of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Rows of `x`.
    pub tokens: u32,
    /// Heads in a row of `x`.
    pub heads: u32,
    /// Dimensions of a head.
    pub head_dim: u32,
    /// How many leading dimensions of a head turn: even, at most `head_dim`.
    pub rotary: u32,
    /// A [`Style`].
    pub style: u32,
    /// Factor on the sine: 1 forward, -1 backward.
    pub sign: f32,
    /// Zero.
    pub pad: [u32; 2],
}

static ROTATE: Kernel = Kernel::new(&source::ROPE_ROTATE, rotate_reference).with_cpu(cpu::rotate);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&ROTATE];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { tokens, heads, head_dim, rotary, style, sign })];

/// Bindings: `positions u32[tokens]` (each below `context`), `table[context, rotary/2, 2]` (cosine, sine),
/// `x[tokens, heads * head_dim]` in place.
pub fn rotate(params: Params) -> Call {
    let pairs = u64::from(params.tokens) * u64::from(params.heads) * u64::from(params.rotary / 2);
    Call::new(&ROTATE, &params, fold_elements(pairs))
}

fn rotate_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [positions, table, x] = operands(bound);
    let (positions, table, x) = (positions.words(), table.f32(), x.f32_mut());
    let half = p.rotary as usize / 2;
    let heads = x.chunks_exact_mut(p.head_dim as usize);
    for (row, head) in heads.take(p.tokens as usize * p.heads as usize).enumerate() {
        let position = positions[row / p.heads as usize] as usize;
        for i in 0..half {
            let at = 2 * (position * half + i);
            let (cos, sin) = (f64::from(table[at]), f64::from(p.sign) * f64::from(table[at + 1]));
            let (first, second) = if p.style == Style::Adjacent as u32 { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let (a, b) = (f64::from(head[first]), f64::from(head[second]));
            head[first] = (a * cos - b * sin) as f32;
            head[second] = (a * sin + b * cos) as f32;
        }
    }
}
