//! Dropout (Srivastava et al. 2014) with counter-based random numbers: whoever asks for the same site in the same
//! rows of a step gets the same mask, so that none is kept for the backward pass.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::{Step, random, source};

/// Stream of the masks' random numbers; `apply.wgsl` repeats it.
pub const STREAM: u32 = 0x6472_6f70;

/// Uniform of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Elements.
    pub len: u32,
    /// Which mask: sites have masks that are independent of each other.
    pub site: u32,
    /// Elements whose random word is below this are dropped: the rate times 2^32.
    pub threshold: u32,
    /// 1: the result is added to what is in `out`.
    pub accumulate: u32,
    /// Factor on the elements that stay: 1 / (1 - rate).
    pub scale: f32,
    /// Place of the first element in the mask, in fours.
    pub first: u32,
    /// Fours of a row of the batch: a mask is one of rows. 0: it has only one.
    pub row: u32,
    /// Zero.
    pub pad: u32,
}

impl Params {
    /// For a rate of at least 0 and below 1.
    pub fn new(len: u32, site: u32, rate: f32, accumulate: bool) -> Self {
        let threshold = (f64::from(rate) * 4_294_967_296.0).round() as u32;
        let scale = (1.0 / (1.0 - f64::from(rate))) as f32;
        Params { len, site, threshold, accumulate: accumulate.into(), scale, first: 0, row: 0, pad: 0 }
    }
}

static APPLY: Kernel = Kernel::new(&source::DROPOUT_APPLY, apply_reference).with_cpu(cpu::apply);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&APPLY];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { len, site, threshold, accumulate, scale, first, row })];

/// `out (+)= scale * mask * x`. The same call takes gradients back. Bindings: `x[len]`, `out[len]`.
pub fn apply(params: Params) -> Call {
    Call::new(&APPLY, &params, fold_elements(u64::from(params.len).div_ceil(4)))
}

fn apply_reference(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, out] = operands(bound);
    let (x, out) = (x.f32(), out.f32_mut());
    for i in 0..p.len as usize {
        let place = p.first.wrapping_add((i / 4) as u32);
        let word = random::words(step, (STREAM, p.site), place, p.row)[i % 4];
        let kept = if word < p.threshold { 0.0 } else { p.scale * x[i] };
        out[i] = if p.accumulate == 1 { out[i] + kept } else { kept };
    }
}
