//! Fast host functions of `adamw`: chunks of parameters; the chunks of the norm are those of its parameters.

use rayon::prelude::*;

use super::{NormParams, Params};
use crate::Step;
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
    let (norm, len) = (norm.f32()[0], p.len as usize);
    if !norm.is_finite() {
        return;
    }
    let update = Update {
        scale: if step.clip > 0.0 { (step.clip / (norm + 1e-6)).min(1.0) } else { 1.0 },
        lr: step.lr,
        decay: 1.0 - step.lr * p.weight_decay,
        p,
        correction1: step.correction1,
        root2: step.correction2.sqrt(),
    };
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

/// Sum of squares of every chunk, eight partial sums in f64.
pub(super) fn norm_partial(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: NormParams = params(bytes);
    let [grads, partials] = operands(bound);
    let grads = &grads.f32()[..p.len as usize];
    let size = p.len.div_ceil(p.partials.max(1)).max(1) as usize;
    partials.f32_mut()[..p.partials as usize].par_iter_mut().enumerate().for_each(|(index, partial)| {
        let start = (index * size).min(grads.len());
        *partial = squares(&grads[start..grads.len().min(start + size)]) as f32;
    });
}

fn squares(x: &[f32]) -> f64 {
    let (runs, tail) = x.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for run in runs {
        for (sum, &x) in sums.iter_mut().zip(run) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    let tail: f64 = tail.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adamw;
    use crate::check::{check, random, unset, values, words};

    #[test]
    fn update_agrees_with_the_reference() {
        for (len, clip, norm) in [(1usize, 0.0, 1.0f32), (100, 1.0, 4.0), (30_000, 1.0, 0.5), (50, 1.0, f32::NAN)] {
            let p = Params { len: len as u32, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, pad: [0; 3] };
            let step = Step { lr: 1e-3, correction1: 0.19, correction2: 0.002, clip, ..Step::default() };
            let squares: Vec<u32> = values(len, 4).iter().map(|x| (x * x).to_bits()).collect();
            let operands = [random(len, 1), random(len, 2), random(len, 3), words(&squares), words(&[norm.to_bits()])];
            check(&step, &adamw::update(p), &operands);
        }
    }

    #[test]
    fn norm_agrees_with_the_reference() {
        for len in [1u32, 4_095, 4_097, 100_003] {
            let p = NormParams { len, partials: adamw::partials(len), ..Default::default() };
            check(&Step::default(), &adamw::norm_partial(p), &[random(len as usize, 1), unset(p.partials as usize)]);
        }
    }
}
