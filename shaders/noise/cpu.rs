//! Fast host function of `noise`: chunks of elements.

use rayon::prelude::*;

use super::{Params, STREAM, unit};
use crate::kernel::{Bind, operands, params};
use crate::{Step, random};

/// Elements of a task, a multiple of 4.
const TASK: usize = 1 << 12;

/// `x[r, c] += magnitudes[r] * u`
pub(super) fn add(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [magnitudes, x] = operands(bound);
    let (width, magnitudes) = (p.width as usize, magnitudes.f32());
    let x = &mut x.f32_mut()[..p.rows as usize * width];
    x.par_chunks_mut(TASK).enumerate().for_each(|(task, x)| {
        for (i, x) in x.chunks_mut(4).enumerate() {
            let first = task * TASK + 4 * i;
            let words = random::words(step, (STREAM, 0), (first / 4) as u32, p.row);
            for (j, (x, word)) in x.iter_mut().zip(words).enumerate() {
                *x += magnitudes[(first + j) / width] * unit(word);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::noise;

    #[test]
    fn agrees_with_the_reference() {
        let step = Step { seed: 5, step: 9, rows: 2, ..Step::default() };
        for (rows, width) in [(1usize, 1usize), (3, 7), (40, 260)] {
            let p = Params { rows: rows as u32, width: width as u32, row: 3, ..Default::default() };
            check(&step, &noise::add(p), &[Operand::random(rows, 1), Operand::random(rows * width, 2)]);
        }
    }
}
