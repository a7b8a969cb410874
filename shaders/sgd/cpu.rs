//! Fast host functions of `sgd`: chunks of parameters.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::gradient_norm::clip_scale;
use crate::kernel::{Bind, operands, params};

/// Parameters of a task.
const TASK: usize = 1 << 13;

/// One step without momentum; nothing changes when the norm is not finite.
pub(super) fn update(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, norm] = operands(bound);
    let len = p.len as usize;
    let Some(scale) = clip_scale(step, norm.f32()[0]) else { return };
    let lr = step.lr * p.lr_factor;
    let (decay, lr) = (1.0 - lr * p.weight_decay, lr * scale);
    let tasks = weights.f32_mut()[..len].par_chunks_mut(TASK).zip(grads.f32()[..len].par_chunks(TASK));
    tasks.for_each(|(weights, grads)| {
        for (weight, gradient) in weights.iter_mut().zip(grads) {
            *weight = *weight * decay - lr * gradient;
        }
    });
}

/// One step with momentum; nothing changes when the norm is not finite.
pub(super) fn momentum(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, norm, m] = operands(bound);
    let len = p.len as usize;
    let Some(scale) = clip_scale(step, norm.f32()[0]) else { return };
    let lr = step.lr * p.lr_factor;
    let decay = 1.0 - lr * p.weight_decay;
    let grads = grads.f32()[..len].par_chunks(TASK);
    let tasks = weights.f32_mut()[..len].par_chunks_mut(TASK).zip(m.f32_mut()[..len].par_chunks_mut(TASK)).zip(grads);
    tasks.for_each(|((weights, m), grads)| {
        for ((weight, m), gradient) in weights.iter_mut().zip(m).zip(grads) {
            *m = p.momentum * *m + gradient * scale;
            *weight = *weight * decay - lr * *m;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::sgd;

    #[test]
    fn agrees_with_the_reference() {
        for (len, clip, norm) in [(1usize, 0.0, 1.0f32), (100, 1.0, 4.0), (30_000, 1.0, 0.5), (50, 1.0, f32::NAN)] {
            let p = Params { len: len as u32, momentum: 0.9, weight_decay: 0.1, lr_factor: 2.0 };
            let step = Step { lr: 1e-2, clip, ..Step::default() };
            let operands = [
                Operand::random(len, 1),
                Operand::random(len, 2),
                Operand::u32(&[norm.to_bits()]),
                Operand::random(len, 3),
            ];
            check(&step, &sgd::update(p), &operands[..3]);
            check(&step, &sgd::momentum(p), &operands);
        }
    }
}
