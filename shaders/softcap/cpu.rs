//! Fast host functions of `softcap`: chunks of elements.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::simd::Simd;
use crate::simd::slices::tanh;

/// Elements of a task.
const TASK: usize = 1 << 13;

/// `x = cap * tanh(x / cap)`
pub(super) fn forward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x] = operands(bound);
    x.f32_mut()[..p.len as usize].par_chunks_mut(TASK).for_each(|x| cap_all(x, p.cap));
}

/// `dx *= 1 - (y / cap)^2`
pub(super) fn backward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [y, dx] = operands(bound);
    let len = p.len as usize;
    dx.f32_mut()[..len].par_chunks_mut(TASK).zip(y.f32()[..len].par_chunks(TASK)).for_each(|(dx, y)| {
        for (dx, &y) in dx.iter_mut().zip(y) {
            *dx *= slope(y, p.cap);
        }
    });
}

/// `cap * tanh(x / cap)` for a cap that is not 0.
#[inline(always)]
pub(crate) fn capped<S: Simd>(x: f32, cap: f32) -> f32 {
    cap * tanh::<S>(x / cap)
}

/// The derivative of [`capped`] where it has this value.
#[inline(always)]
pub(crate) fn slope(value: f32, cap: f32) -> f32 {
    let part = value / cap;
    1.0 - part * part
}

crate::vectorized! {
    /// `x[i] = cap * tanh(x[i] / cap)`
    pub(crate) fn cap_all(x: &mut [f32], cap: f32) = cap_all_body
}

#[inline(always)]
fn cap_all_body<S: Simd>(_: S, x: &mut [f32], cap: f32) {
    for x in x {
        *x = capped::<S>(*x, cap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, Random, check};
    use crate::softcap;

    #[test]
    fn agrees_with_the_reference() {
        for len in [1usize, 33, 20_000] {
            let p = Params { len: len as u32, cap: 5.0, ..Default::default() };
            let wide: Vec<u32> = Random::new(1).values(len).iter().map(|x| (x * 12.0).to_bits()).collect();
            check(&Step::default(), &softcap::forward(p), &[Operand::u32(&wide)]);
            let y: Vec<u32> = Random::new(2).values(len).iter().map(|x| (x * 5.0).to_bits()).collect();
            check(&Step::default(), &softcap::backward(p), &[Operand::u32(&y), Operand::random(len, 3)]);
        }
    }
}
