//! Fast host functions of `rmsnorm`: tasks of whole rows.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::simd::Simd;
use crate::simd::slices::{dot_body, dot3_body};

/// Elements of a task.
const TASK: usize = 1 << 14;

/// Elements of whole rows for a task, at least one row.
fn task(p: &Params) -> usize {
    let width = (p.width as usize).max(1);
    (TASK / width).max(1) * width
}

/// `y = x * weight / rms(x)`
pub(super) fn forward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, y] = operands(bound);
    let (width, len) = (p.width as usize, p.rows as usize * p.width as usize);
    let (x, weight, y) = (&x.f32()[..len], &weight.f32()[..width], &mut y.f32_mut()[..len]);
    y.par_chunks_mut(task(&p)).zip(x.par_chunks(task(&p))).for_each(|(y, x)| {
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            forward_row(x, weight, y, p.eps);
        }
    });
}

/// `dx = r * w * dy - x * r^3 / width * sum(w * dy * x)`
pub(super) fn backward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, dy, dx] = operands(bound);
    let (width, len) = (p.width as usize, p.rows as usize * p.width as usize);
    let (x, weight, dy, dx) = (&x.f32()[..len], &weight.f32()[..width], &dy.f32()[..len], &mut dx.f32_mut()[..len]);
    let inputs = x.par_chunks(task(&p)).zip(dy.par_chunks(task(&p)));
    dx.par_chunks_mut(task(&p)).zip(inputs).for_each(|(dx, (x, dy))| {
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
        for (dx, (x, dy)) in dx.chunks_exact_mut(width).zip(rows) {
            backward_row(x, weight, dy, dx, p.eps, p.accumulate != 0);
        }
    });
}

crate::vectorized! {
    fn forward_row(x: &[f32], weight: &[f32], y: &mut [f32], eps: f32) = forward_body
}

crate::vectorized! {
    fn backward_row(x: &[f32], weight: &[f32], dy: &[f32], dx: &mut [f32], eps: f32, accumulate: bool) = backward_body
}

#[inline(always)]
fn inverse_rms<S: Simd>(simd: S, x: &[f32], eps: f32) -> f32 {
    1.0 / (dot_body(simd, x, x) / x.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn forward_body<S: Simd>(simd: S, x: &[f32], weight: &[f32], y: &mut [f32], eps: f32) {
    let inverse = inverse_rms(simd, x, eps);
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = x * inverse * w;
    }
}

#[inline(always)]
fn backward_body<S: Simd>(simd: S, x: &[f32], weight: &[f32], dy: &[f32], dx: &mut [f32], eps: f32, accumulate: bool) {
    let inverse = inverse_rms(simd, x, eps);
    let pull = inverse * inverse * inverse * dot3_body(simd, weight, dy, x) / x.len() as f32;
    if !accumulate {
        dx.fill(0.0);
    }
    for (((dx, x), w), dy) in dx.iter_mut().zip(x).zip(weight).zip(dy) {
        *dx += inverse * w * dy - x * pull;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::rmsnorm;

    #[test]
    fn agrees_with_the_reference() {
        for (rows, width) in [(1, 4), (3, 17), (7, 64), (100, 576), (2, 20_000)] {
            for accumulate in [0, 1] {
                let p = Params { rows, width, accumulate, eps: 1e-5 };
                let (len, width) = ((rows * width) as usize, width as usize);
                let [x, weight, dy] = [Operand::random(len, 1), Operand::random(width, 2), Operand::random(len, 3)];
                let dx = if accumulate == 1 { Operand::random(len, 4) } else { Operand::unset(len) };
                check(&Step::default(), &rmsnorm::forward(p), &[x.clone(), weight.clone(), Operand::unset(len)]);
                check(&Step::default(), &rmsnorm::backward(p), &[x, weight, dy, dx]);
            }
        }
    }
}
