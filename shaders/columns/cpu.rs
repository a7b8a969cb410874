//! Fast host functions of `columns`: tasks of whole rows.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};

/// Elements of a task.
const TASK: usize = 1 << 14;

/// `out[t, i] = x[t, start + i]`
pub(super) fn copy(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, out] = operands(bound);
    let (width, stride, start) = (p.width as usize, p.stride as usize, p.start as usize);
    if width == 0 {
        return;
    }
    let rows = (TASK / width).max(1);
    let out = out.f32_mut()[..p.rows as usize * width].par_chunks_mut(rows * width);
    out.zip(x.f32().par_chunks(rows * stride)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(stride)) {
            out.copy_from_slice(&x[start..start + width]);
        }
    });
}

/// `x[t, start + i] (+)= part[t, i]`
pub(super) fn put(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [part, x] = operands(bound);
    let (width, stride, start) = (p.width as usize, p.stride as usize, p.start as usize);
    if width == 0 {
        return;
    }
    let rows = (TASK / width).max(1);
    let x = x.f32_mut()[..p.rows as usize * stride].par_chunks_mut(rows * stride);
    x.zip(part.f32().par_chunks(rows * width)).for_each(|(x, part)| {
        for (x, part) in x.chunks_exact_mut(stride).zip(part.chunks_exact(width)) {
            let x = &mut x[start..start + width];
            if p.accumulate == 0 {
                x.copy_from_slice(part);
            } else {
                x.iter_mut().zip(part).for_each(|(x, part)| *x += part);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::columns;

    #[test]
    fn agrees_with_the_reference() {
        for (rows, width, start, stride) in [(1, 1, 0, 1), (3, 5, 2, 9), (700, 40, 24, 64)] {
            for accumulate in [0, 1] {
                let p = Params { rows, width, start, stride, accumulate, ..Default::default() };
                let (wide, narrow) = ((rows * stride) as usize, (rows * width) as usize);
                check(&Step::default(), &columns::copy(p), &[Operand::random(wide, 1), Operand::unset(narrow)]);
                check(&Step::default(), &columns::put(p), &[Operand::random(narrow, 2), Operand::random(wide, 3)]);
            }
        }
    }
}
