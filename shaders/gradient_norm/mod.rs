//! The global gradient norm, and what optimizers make of it: clipping, and whether a step counts.
//!
//! The norm takes two kernels: `partial` sums squares by chunks, `final` adds the chunks in a fixed order.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold, layout, operands, params};
use crate::{Step, source};

/// Uniform of both kernels.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Gradients (`partial` only).
    pub len: u32,
    /// Chunks. `partial` cuts the gradients into this many of `len.div_ceil(partials)` elements.
    pub partials: u32,
    /// Zero.
    pub pad: [u32; 2],
}

static PARTIAL: Kernel = Kernel::new(&source::GRADIENT_NORM_PARTIAL, partial_reference).with_cpu(cpu::partial);
static FINAL: Kernel = Kernel::new(&source::GRADIENT_NORM_FINAL, final_reference);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&PARTIAL, &FINAL];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { len, partials })];

/// A good number of chunks for `len` gradients: of 4096 elements, at most 1024 chunks. Depends on nothing else, so
/// that the order of summation does not depend on the device.
pub const fn partials(len: u32) -> u32 {
    match len.div_ceil(4096) {
        0 => 1,
        chunks if chunks > 1024 => 1024,
        chunks => chunks,
    }
}

/// Sums of squares by chunk. Bindings: `grads[len]`, `partials[partials]`.
pub fn partial(params: Params) -> Call {
    Call::new(&PARTIAL, &params, fold(params.partials.into()))
}

/// Root of the sum of the chunks. Bindings: `partials[partials]`, `norm[1]`.
pub fn total(params: Params) -> Call {
    Call::new(&FINAL, &params, [1, 1, 1])
}

/// The factor on gradients whose global norm is `norm`: PyTorch's `clip_grad_norm_` to [`Step::clip`]. `None` if the
/// norm is not finite: the step then changes nothing.
pub fn clip_scale(step: &Step, norm: f32) -> Option<f32> {
    let scale = if step.clip > 0.0 { (step.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
    norm.is_finite().then_some(scale)
}

fn partial_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [grads, partials] = operands(bound);
    let (grads, partials) = (&grads.f32()[..p.len as usize], partials.f32_mut());
    let mut chunks = grads.chunks(p.len.div_ceil(p.partials).max(1) as usize);
    for partial in &mut partials[..p.partials as usize] {
        let chunk = chunks.next().unwrap_or(&[]);
        *partial = chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>() as f32;
    }
}

fn final_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [partials, norm] = operands(bound);
    let sum: f64 = partials.f32()[..p.partials as usize].iter().map(|&x| f64::from(x)).sum();
    norm.f32_mut()[0] = sum.sqrt() as f32;
}
