//! Fast host functions of `elementwise`: chunks of elements, bound by memory.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};

/// Elements of a task.
const TASK: usize = 1 << 15;

/// `out = a + b`
pub(super) fn add(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, b, out] = operands(bound);
    let len = p.len as usize;
    let inputs = a.f32()[..len].par_chunks(TASK).zip(b.f32()[..len].par_chunks(TASK));
    out.f32_mut()[..len].par_chunks_mut(TASK).zip(inputs).for_each(|(out, (a, b))| {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = a + b;
        }
    });
}

/// `out += a`
pub(super) fn accumulate(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, out] = operands(bound);
    let len = p.len as usize;
    out.f32_mut()[..len].par_chunks_mut(TASK).zip(a.f32()[..len].par_chunks(TASK)).for_each(|(out, a)| {
        for (out, a) in out.iter_mut().zip(a) {
            *out += a;
        }
    });
}

/// `out = a`
pub(super) fn copy(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, out] = operands(bound);
    let len = p.len as usize;
    let tasks = out.f32_mut()[..len].par_chunks_mut(TASK).zip(a.f32()[..len].par_chunks(TASK));
    tasks.for_each(|(out, a)| out.copy_from_slice(a));
}

/// `out = value`
pub(super) fn fill(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [out] = operands(bound);
    out.f32_mut()[..p.len as usize].par_chunks_mut(TASK).for_each(|out| out.fill(p.value));
}

/// `out *= value`
pub(super) fn scale(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [out] = operands(bound);
    out.f32_mut()[..p.len as usize].par_chunks_mut(TASK).for_each(|out| {
        for out in out {
            *out *= p.value;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::elementwise;

    #[test]
    fn agrees_with_the_reference() {
        for len in [1usize, 33, 100_000] {
            let p = Params { len: len as u32, value: -0.75, ..Default::default() };
            let (a, b) = (Operand::random(len, 1), Operand::random(len, 2));
            check(&Step::default(), &elementwise::add(p), &[a.clone(), b.clone(), Operand::unset(len)]);
            check(&Step::default(), &elementwise::accumulate(p), &[a.clone(), b.clone()]);
            check(&Step::default(), &elementwise::copy(p), &[a, Operand::unset(len)]);
            check(&Step::default(), &elementwise::fill(p), &[Operand::unset(len)]);
            check(&Step::default(), &elementwise::scale(p), &[b]);
        }
    }
}
