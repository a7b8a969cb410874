//! Rows of the token embedding.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::format::SLAB;
use crate::kernel::{Bind, Call, Kernel, Layout, fold, layout, operands, params};
use crate::{Format, Step, source};

/// Uniform of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Token ids.
    pub tokens: u32,
    /// Columns of the weight and of `out`, a multiple of 4.
    pub width: u32,
    /// First row of the whole weight that this part holds.
    pub row0: u32,
    /// Rows of this part.
    pub rows: u32,
    /// ggml's id of the weight's format.
    pub format: u32,
    /// Factor on the rows.
    pub scale: f32,
    /// Fills the uniform up to 32 bytes.
    pub pad: [u32; 2],
}

static FORWARD: [Kernel; Format::ALL.len()] =
    Kernel::family(&source::EMBED_FORWARD, forward_reference, Some(cpu::forward));

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &Kernel::list::<{ Format::ALL.len() }>(&[&FORWARD]);

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { tokens, width, row0, rows, format, scale })];

/// `out[t] = scale * weight[tokens[t] - row0]` for the tokens whose row is in this part; other rows of `out` stay.
///
/// Bindings: `tokens u32[tokens]`, `weight[rows, width]` packed in `format`, `out[tokens, width]`.
pub fn forward(format: Format, params: Params) -> Call {
    debug_assert_eq!(params.format, format.ggml_id());
    debug_assert!(params.width.is_multiple_of(4), "width {}", params.width);
    let octets = u64::from(params.tokens) * (u64::from(params.width).div_ceil(SLAB as u64) * 8);
    Call::new(&FORWARD[format as usize], &params, fold(octets.div_ceil(64)))
}

fn forward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [tokens, weight, out] = operands(bound);
    let (rows, width) = (p.rows as usize, p.width as usize);
    let weight = weight.decoded(p.format, rows, width);
    for (id, out) in tokens.words().iter().zip(out.f32_mut().chunks_mut(width)).take(p.tokens as usize) {
        let row = id.wrapping_sub(p.row0) as usize;
        if row < rows {
            for (out, w) in out.iter_mut().zip(&weight[row * width..]) {
                *out = w * p.scale;
            }
        }
    }
}
