//! Fast host functions of `scale_columns`: rows, or blocks of columns row by row.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};

/// Elements of a task over rows.
const TASK: usize = 1 << 15;
/// Columns of a task over columns.
const COLUMNS: usize = 256;

/// `out[t, c] (+)= x[t, c] * factor(c)`
pub(super) fn apply(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, scales, out] = operands(bound);
    let (len, width) = (p.rows as usize * p.width as usize, p.width as usize);
    let factor = |scale: &f32| p.strength * scale + (1.0 - p.strength);
    let factors: Vec<f32> = scales.f32()[..width].iter().map(factor).collect();
    let task = (TASK / width.max(1)).max(1) * width.max(1);
    out.f32_mut()[..len].par_chunks_mut(task).zip(x.f32()[..len].par_chunks(task)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let values = x.iter().zip(&factors).map(|(x, factor)| x * factor);
            if p.accumulate == 1 {
                out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
            } else {
                out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
            }
        }
    });
}

/// `dscales[c] += strength * (dout[0, c] * x[0, c] + ..)`
pub(super) fn gradient(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, dout, dscales] = operands(bound);
    let (len, width) = (p.rows as usize * p.width as usize, p.width as usize);
    let (x, dout) = (&x.f32()[..len], &dout.f32()[..len]);
    dscales.f32_mut()[..width].par_chunks_mut(COLUMNS).enumerate().for_each(|(task, dscales)| {
        let mut sums = [0.0f32; COLUMNS];
        for (x, dout) in x.chunks_exact(width).zip(dout.chunks_exact(width)) {
            let columns = x[task * COLUMNS..].iter().zip(&dout[task * COLUMNS..]);
            sums.iter_mut().zip(columns).for_each(|(sum, (x, dout))| *sum += x * dout);
        }
        dscales.iter_mut().zip(sums).for_each(|(dscale, sum)| *dscale += p.strength * sum);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::scale_columns;

    #[test]
    fn agrees_with_the_reference() {
        for (rows, width, strength) in [(1, 1, 1.0), (7, 256, 0.5), (40, 700, 1.0), (300, 130, -2.0)] {
            let len = (rows * width) as usize;
            let (x, scales, dout) =
                (Operand::random(len, 1), Operand::random(width as usize, 2), Operand::random(len, 3));
            let p = Params { rows, width, strength, accumulate: 0 };
            check(&Step::default(), &scale_columns::apply(p), &[x.clone(), scales.clone(), Operand::unset(len)]);
            let add = Params { accumulate: 1, ..p };
            check(&Step::default(), &scale_columns::apply(add), &[x.clone(), scales.clone(), dout.clone()]);
            check(&Step::default(), &scale_columns::gradient(p), &[x, dout, scales]);
        }
    }
}
