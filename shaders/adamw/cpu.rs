//! Fast host function of `adamw`: chunks of parameters.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::gradient_norm::clip_scale;
use crate::kernel::{Bind, operands, params};

/// Parameters of a task.
const TASK: usize = 1 << 13;

/// What is the same for all parameters of a step.
struct Update {
    scale: f32,
    lr: f32,
    decay: f32,
    p: Params,
    correction1: f32,
    root2: f32,
}

/// One AdamW step; nothing changes when the norm is not finite.
pub(super) fn update(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, m, v, norm] = operands(bound);
    let len = p.len as usize;
    let Some(scale) = clip_scale(step, norm.f32()[0]) else { return };
    let lr = step.lr * p.lr_factor;
    let decay = 1.0 - lr * p.weight_decay;
    let update = Update { scale, lr, decay, p, correction1: step.correction1, root2: step.correction2.sqrt() };
    let moments = m.f32_mut()[..len].par_chunks_mut(TASK).zip(v.f32_mut()[..len].par_chunks_mut(TASK));
    let grads = grads.f32()[..len].par_chunks(TASK);
    let tasks = weights.f32_mut()[..len].par_chunks_mut(TASK).zip(moments).zip(grads);
    tasks.for_each(|((weights, (m, v)), grads)| chunk(&update, weights, m, v, grads));
}

fn chunk(u: &Update, weights: &mut [f32], m: &mut [f32], v: &mut [f32], grads: &[f32]) {
    for (((weight, m), v), gradient) in weights.iter_mut().zip(m).zip(v).zip(grads) {
        let gradient = gradient * u.scale;
        *m = u.p.beta1 * *m + (1.0 - u.p.beta1) * gradient;
        *v = u.p.beta2 * *v + (1.0 - u.p.beta2) * gradient * gradient;
        let root = v.sqrt() / u.root2 + u.p.eps;
        *weight = *weight * u.decay - u.lr * (*m / u.correction1) / root;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adamw;
    use crate::check::{Operand, Random, check};

    #[test]
    fn agrees_with_the_reference() {
        for (len, clip, norm) in [(1usize, 0.0, 1.0f32), (100, 1.0, 4.0), (30_000, 1.0, 0.5), (50, 1.0, f32::NAN)] {
            let len32 = len as u32;
            let p = Params {
                len: len32,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.1,
                lr_factor: 2.0,
                pad: [0; 2],
            };
            let step = Step { lr: 1e-3, correction1: 0.19, correction2: 0.002, clip, ..Step::default() };
            let squares: Vec<u32> = Random::new(4).values(len).iter().map(|x| (x * x).to_bits()).collect();
            let operands = [
                Operand::random(len, 1),
                Operand::random(len, 2),
                Operand::random(len, 3),
                Operand::u32(&squares),
                Operand::u32(&[norm.to_bits()]),
            ];
            check(&step, &adamw::update(p), &operands);
        }
    }
}
