//! Fast host function of `importance`: blocks of columns, row by row in each.

use rayon::prelude::*;

use super::Params;
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
