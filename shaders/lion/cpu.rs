//! Fast host function of `lion`: chunks of parameters.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::gradient_norm::clip_scale;
use crate::kernel::{Bind, operands, params};

/// Parameters of a task.
const TASK: usize = 1 << 13;

/// One Lion step; nothing changes when the norm is not finite.
pub(super) fn update(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, m, norm] = operands(bound);
    let len = p.len as usize;
    let Some(scale) = clip_scale(step, norm.f32()[0]) else { return };
    let lr = step.lr * p.lr_factor;
    let decay = 1.0 - lr * p.weight_decay;
    let grads = grads.f32()[..len].par_chunks(TASK);
    let tasks = weights.f32_mut()[..len].par_chunks_mut(TASK).zip(m.f32_mut()[..len].par_chunks_mut(TASK)).zip(grads);
    tasks.for_each(|((weights, m), grads)| {
        for ((weight, m), gradient) in weights.iter_mut().zip(m).zip(grads) {
            let gradient = gradient * scale;
            let direction = p.beta1 * *m + (1.0 - p.beta1) * gradient;
            let sign = f32::from(direction > 0.0) - f32::from(direction < 0.0);
            *weight = *weight * decay - lr * sign;
            *m = p.beta2 * *m + (1.0 - p.beta2) * gradient;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::lion;

    #[test]
    fn agrees_with_the_reference() {
        for (len, clip, norm) in [(1usize, 0.0, 1.0f32), (100, 1.0, 4.0), (30_000, 1.0, 0.5), (50, 1.0, f32::NAN)] {
            let len32 = len as u32;
            let p =
                Params { len: len32, beta1: 0.9, beta2: 0.99, weight_decay: 0.1, lr_factor: 2.0, ..Default::default() };
            let step = Step { lr: 1e-3, clip, ..Step::default() };
            let operands = [
                Operand::random(len, 1),
                Operand::random(len, 2),
                Operand::random(len, 3),
                Operand::u32(&[norm.to_bits()]),
            ];
            check(&step, &lion::update(p), &operands);
        }
    }
}
