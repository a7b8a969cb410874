//! Fast host function of `dropout`: chunks of elements.

use rayon::prelude::*;

use super::{Params, STREAM};
use crate::kernel::{Bind, operands, params};
use crate::{Step, random};

/// Elements of a task, a multiple of 4.
const TASK: usize = 1 << 12;

/// `out (+)= scale * mask * x`
pub(super) fn apply(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, out] = operands(bound);
    let len = p.len as usize;
    let tasks = out.f32_mut()[..len].par_chunks_mut(TASK).zip(x.f32()[..len].par_chunks(TASK));
    tasks.enumerate().for_each(|(task, (out, x))| {
        for (i, (out, x)) in out.chunks_mut(4).zip(x.chunks(4)).enumerate() {
            let index = p.first.wrapping_add((task * TASK / 4 + i) as u32);
            let words = random::words(step, (STREAM, p.site), index, p.row);
            for ((out, x), word) in out.iter_mut().zip(x).zip(words) {
                let kept = if word < p.threshold { 0.0 } else { p.scale * x };
                *out = if p.accumulate == 1 { *out + kept } else { kept };
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::dropout;

    #[test]
    fn agrees_with_the_reference() {
        let step = Step { seed: 5, step: 9, rows: 2, ..Step::default() };
        for len in [1usize, 7, 4_099, 20_000] {
            let p =
                |accumulate| Params { first: 7, row: len as u32 / 9, ..Params::new(len as u32, 3, 0.3, accumulate) };
            check(&step, &dropout::apply(p(false)), &[Operand::random(len, 1), Operand::unset(len)]);
            check(&step, &dropout::apply(p(true)), &[Operand::random(len, 1), Operand::random(len, 2)]);
        }
    }
}
