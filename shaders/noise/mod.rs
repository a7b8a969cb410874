//! Uniform noise on rows, each with its own magnitude, from counter-based random numbers.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::{Step, random, source};

/// Stream of the noise's random numbers; `add.wgsl` repeats it.
pub const STREAM: u32 = 0x6e6f_6973;

/// Uniform of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Rows of `x`.
    pub rows: u32,
    /// Columns of `x`.
    pub width: u32,
    /// Fours of a row of the batch; 0: all rows of `x` are one.
    pub row: u32,
    /// Zero.
    pub pad: u32,
}

static ADD: Kernel = Kernel::new(&source::NOISE_ADD, add_reference).with_cpu(cpu::add);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&ADD];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { rows, width, row })];

/// `x[r, c] += magnitudes[r] * u` with u uniform in [-1, 1), another one for each element of a step.
///
/// Bindings: `magnitudes[rows]`, `x[rows, width]`.
pub fn add(params: Params) -> Call {
    let elements = u64::from(params.rows) * u64::from(params.width);
    Call::new(&ADD, &params, fold_elements(elements.div_ceil(4)))
}

/// A number in [-1, 1) of 24 bits; every operation is exact.
fn unit(word: u32) -> f32 {
    (word >> 8) as f32 / 8_388_608.0 - 1.0
}

fn add_reference(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [magnitudes, x] = operands(bound);
    let (magnitudes, x) = (magnitudes.f32(), x.f32_mut());
    for i in 0..(p.rows * p.width) as usize {
        let word = random::words(step, (STREAM, 0), (i / 4) as u32, p.row)[i % 4];
        x[i] += magnitudes[i / p.width as usize] * unit(word);
    }
}
