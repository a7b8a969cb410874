//! The global gradient norm over an arena of parameters, and the ranges in which optimizers walk it.

use std::ops::Range;

use loam_shaders::gradient_norm::{self as kernels, Params};

use crate::plan::{Recorder, Tensor, View};

/// Words at which every device can bind a range, and a block of 8-bit moments, whose codes can be bound then too.
pub const ALIGN: usize = 256;

/// What an optimizer updates with one call.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// First parameter, a multiple of [`ALIGN`].
    pub first: usize,
    /// `f32[len]`.
    pub parameters: View,
    /// `f32[len]`.
    pub gradients: View,
    /// `f32[1]`: the global gradient norm before clipping.
    pub norm: View,
    /// Parameters.
    pub len: usize,
    /// Factor on the step's learning rate.
    pub lr_factor: f32,
}

impl Part {
    /// The words of these parameters in a state with one value for every `per_word` of them.
    pub fn state(&self, state: Tensor, per_word: usize) -> View {
        let range = self.first / per_word..(self.first + self.len).div_ceil(per_word);
        slice(state, &range).view()
    }
}

/// norm = the root of the sum of squares of `gradients`, which are cut into `ranges`.
pub fn gradient_norm(r: &mut Recorder, gradients: Tensor, ranges: &[Range<usize>], norm: Tensor) {
    let counts: Vec<usize> = ranges.iter().map(|range| partials(range.len(), ranges.len())).collect();
    let all = r.temporary(1, counts.iter().sum());
    let mut first = 0;
    for (range, &count) in ranges.iter().zip(&counts) {
        let params = Params { len: range.len() as u32, partials: count as u32, ..bytemuck::Zeroable::zeroed() };
        let partials = slice(all, &(first..first + count));
        r.call("gradient norm", kernels::partial(params), &[slice(gradients, range).view(), partials.view()]);
        first += count;
    }
    let params = Params { len: 0, partials: all.cols as u32, ..bytemuck::Zeroable::zeroed() };
    r.call("gradient norm", kernels::total(params), &[all.view(), norm.view()]);
}

/// `range` in pieces of at most `limit` words that begin where a device can bind them.
pub fn ranges(range: Range<usize>, limit: u64) -> Vec<Range<usize>> {
    let step = usize::try_from(limit).unwrap_or(usize::MAX) / ALIGN * ALIGN;
    let step = step.max(ALIGN);
    range.clone().step_by(step).map(|start| start..range.end.min(start.saturating_add(step))).collect()
}

/// Chunks of the norm of a range of `len` gradients. With several ranges their partial sums lie one after the other,
/// so each begins where a device can bind it; chunks after the end sum up to 0.
fn partials(len: usize, ranges: usize) -> usize {
    let count = kernels::partials(len as u32) as usize;
    if ranges == 1 { count } else { count.next_multiple_of(ALIGN) }
}

/// A range of an arena.
pub fn slice(arena: Tensor, range: &Range<usize>) -> Tensor {
    Tensor { offset: arena.offset + range.start as u64, rows: 1, cols: range.len(), ..arena }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once_and_are_aligned() {
        for (from, to, limit) in [(0, 1, 256), (0, 256, 256), (256, 4000, 256), (0, 4000, 800), (0, 9000, u64::MAX)] {
            let ranges = ranges(from..to, limit);
            assert_eq!(ranges.iter().map(|r| r.len()).sum::<usize>(), to - from);
            assert!(ranges.iter().all(|r| r.start % ALIGN == 0 && r.len() as u64 <= limit.max(256)));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }
}
