//! Log-probabilities of integer labels, with the gradient of a weighted sum of them written over the logits.
//!
//! A chunk of rows at a time passes through here, so that tokens x vocabulary never exists as one buffer.

mod cpu;

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold, layout, operands, params};
use crate::softcap::{capped, slope};
use crate::step::NONE;
use crate::{Step, source};

/// Uniform of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Rows of logits in this chunk.
    pub rows: u32,
    /// Columns of logits.
    pub vocab: u32,
    /// First entry of `labels`, `weights` and `log_probabilities` that belongs to this chunk.
    pub offset: u32,
    /// 1: replace the logits by the gradient; 0: leave them.
    pub gradient: u32,
    /// The log-probabilities are those of `softcap * tanh(logits / softcap)`; 0: no cap.
    pub softcap: f32,
    /// Zero.
    pub pad: [u32; 3],
}

static FORWARD: Kernel = Kernel::new(&source::CROSS_ENTROPY_FORWARD, forward_reference).with_cpu(cpu::forward);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&FORWARD];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { rows, vocab, offset, gradient, softcap })];

/// With `z = logits[i]`, soft-capped if the parameters say so: `log_probabilities[offset + i] = z[label] -
/// logsumexp(z)`, 0 where the label is [`NONE`]. With `gradient`, `logits[i] = (softmax(z) - onehot(label)) *
/// dz/dlogits[i] * weights[offset + i]`, zeros where the label is [`NONE`]: the gradient of a loss L whose derivative
/// by that log-probability is minus the weight.
///
/// Bindings: `labels u32[offset + rows or more]` (below `vocab` or [`NONE`]), `weights[offset + rows or more]`,
/// `logits[rows, vocab]`, `log_probabilities[offset + rows or more]`.
pub fn forward(params: Params) -> Call {
    Call::new(&FORWARD, &params, fold(params.rows.into()))
}

fn forward_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [labels, weights, logits, values] = operands(bound);
    let (labels, weights, logits, values) = (labels.words(), weights.f32(), logits.f32_mut(), values.f32_mut());
    for (i, row) in logits.chunks_exact_mut(p.vocab as usize).take(p.rows as usize).enumerate() {
        let at = p.offset as usize + i;
        let label = labels[at];
        if label == NONE {
            values[at] = 0.0;
            if p.gradient != 0 {
                row.fill(0.0);
            }
            continue;
        }
        let cap = |x: f32| capped(f64::from(x), p.softcap);
        let max = row.iter().map(|&x| cap(x)).fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|&x| (cap(x) - max).exp()).sum();
        let log_sum = max + sum.ln();
        values[at] = (cap(row[label as usize]) - log_sum) as f32;
        if p.gradient != 0 {
            for (column, x) in row.iter_mut().enumerate() {
                let target = if column == label as usize { 1.0 } else { 0.0 };
                let value = cap(*x);
                let softmax = (value - log_sum).exp();
                *x = ((softmax - target) * slope(value, p.softcap) * f64::from(weights[at])) as f32;
            }
        }
    }
}
