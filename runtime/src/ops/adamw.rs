//! The optimizer step over all adapter parameters at once.

use std::ops::Range;

use loam_shaders::adamw::{self as kernels, NormParams, Params};

use super::elementwise;
use crate::plan::{Recorder, Tensor};

/// AdamW's constants (Loshchilov & Hutter 2019), with PyTorch's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// The buffers of all trained parameters, each f32[len].
#[derive(Debug, Clone, Copy)]
pub struct Arenas {
    /// Parameters.
    pub parameters: Tensor,
    /// Summed gradients; zeroed after the update.
    pub gradients: Tensor,
    /// First moments.
    pub m: Tensor,
    /// Second moments.
    pub v: Tensor,
    /// f32[1]: the global gradient norm before clipping.
    pub norm: Tensor,
}

/// Gradient norm, clipping to `step.clip`, AdamW update, and zeroed gradients for the next step. No binding is longer
/// than `limit` words: larger arenas are walked in ranges.
pub fn update(r: &mut Recorder, arenas: Arenas, adamw: AdamW, limit: u64) {
    let Arenas { parameters, gradients, m, v, norm } = arenas;
    let ranges = ranges(parameters.len(), limit);
    let counts: Vec<usize> = ranges.iter().map(|range| partials(range.len(), ranges.len())).collect();
    let all = r.temporary(1, counts.iter().sum());
    let mut first = 0;
    for (range, &count) in ranges.iter().zip(&counts) {
        let params = NormParams { len: range.len() as u32, partials: count as u32, ..bytemuck::Zeroable::zeroed() };
        let partials = slice(all, &(first..first + count));
        r.call("gradient norm", kernels::norm_partial(params), &[slice(gradients, range).view(), partials.view()]);
        first += count;
    }
    let params = NormParams { len: 0, partials: all.cols as u32, ..bytemuck::Zeroable::zeroed() };
    r.call("gradient norm", kernels::norm_final(params), &[all.view(), norm.view()]);
    let AdamW { beta1, beta2, eps, weight_decay } = adamw;
    for range in &ranges {
        let len = range.len() as u32;
        let params = Params { len, beta1, beta2, eps, weight_decay, ..bytemuck::Zeroable::zeroed() };
        let [p, g, m, v] = [parameters, gradients, m, v].map(|arena| slice(arena, range).view());
        r.call("adamw", kernels::update(params), &[p, g, m, v, norm.view()]);
        elementwise::fill(r, "gradients", slice(gradients, range), 0.0);
    }
}

/// Words at which every device can bind a range.
const ALIGN: usize = 64;

/// 0..len in ranges of at most `limit` words that begin where a device can bind them.
fn ranges(len: usize, limit: u64) -> Vec<Range<usize>> {
    let step = usize::try_from(limit).unwrap_or(usize::MAX) / ALIGN * ALIGN;
    let step = step.max(ALIGN);
    (0..len).step_by(step).map(|start| start..len.min(start.saturating_add(step))).collect()
}

/// Chunks of the norm of a range of `len` gradients. With several ranges their partial sums lie one behind the other,
/// so each begins where a device can bind it; chunks behind the end sum up to 0.
fn partials(len: usize, ranges: usize) -> usize {
    let count = kernels::partials(len as u32) as usize;
    if ranges == 1 { count } else { count.next_multiple_of(ALIGN) }
}

fn slice(arena: Tensor, range: &Range<usize>) -> Tensor {
    Tensor { offset: arena.offset + range.start as u64, rows: 1, cols: range.len(), ..arena }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once_and_are_aligned() {
        for (len, limit) in [(1, 64), (64, 64), (1000, 64), (1000, 200), (1000, 10), (5000, u64::MAX)] {
            let ranges = ranges(len, limit);
            assert_eq!(ranges.iter().map(|r| r.len()).sum::<usize>(), len);
            assert!(ranges.iter().all(|r| r.start % ALIGN == 0 && r.len() as u64 <= limit.max(64)));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}
