//! Fast host functions of `importance`: blocks of columns, or experts, row by row in each.

use rayon::prelude::*;

use super::{GroupedParams, Params};
use crate::Step;
use crate::kernel::{Bind, operands, params};

/// Columns of a task.
const TASK: usize = 256;

/// `sums[c] = x[0, c]^2 + x[1, c]^2 + ..`
pub(super) fn squares(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, sums] = operands(bound);
    let (rows, width) = (p.rows as usize, p.width as usize);
    let x = &x.f32()[..rows * width];
    sums.f32_mut()[..width].par_chunks_mut(TASK).enumerate().for_each(|(task, sums)| {
        sums.fill(0.0);
        for row in x.chunks_exact(width) {
            for (sum, x) in sums.iter_mut().zip(&row[task * TASK..]) {
                *sum += x * x;
            }
        }
    });
}

/// `sums[e, c] = x[r, c]^2 + ..` over the rows of expert `e`
pub(super) fn grouped(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: GroupedParams = params(bytes);
    let [x, counts, list, sums] = operands(bound);
    let (experts, width) = (p.experts as usize, p.width as usize);
    let (x, mut list) = (x.f32(), list.words());
    let split = |count: &u32| list.split_off(..*count as usize).expect("as many pairs as are counted");
    let own: Vec<&[u32]> = counts.words()[..experts].iter().map(split).collect();
    sums.f32_mut()[..experts * width].par_chunks_exact_mut(width).zip(own).for_each(|(sums, pairs)| {
        sums.fill(0.0);
        for pair in pairs {
            let row = &x[(pair / p.slots) as usize * width..][..width];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::importance;

    #[test]
    fn agrees_with_the_reference() {
        for (rows, width) in [(1, 1), (7, 256), (40, 700)] {
            let p = Params { rows, width, ..Default::default() };
            check(
                &Step::default(),
                &importance::squares(p),
                &[Operand::random((rows * width) as usize, 1), Operand::unset(width as usize)],
            );
        }
        for (counts, slots, width) in [([4, 0, 2, 0], 1, 5), ([0, 90, 1, 5], 4, 300)] {
            let p = GroupedParams { experts: 4, slots, width, ..Default::default() };
            let pairs: u32 = counts.iter().sum();
            let list: Vec<u32> = (0..pairs).rev().collect();
            let x = Operand::random((pairs / slots * width) as usize, 2);
            let bound = [x, Operand::u32(&counts), Operand::u32(&list), Operand::unset(4 * width as usize)];
            check(&Step::default(), &importance::grouped(p), &bound);
        }
    }
}
