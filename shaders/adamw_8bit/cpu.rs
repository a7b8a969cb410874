//! Fast host function of `adamw_8bit`: a task is a few blocks.

use rayon::prelude::*;

use super::{BLOCK, ENTRIES, Params, codes};
use crate::Step;
use crate::gradient_norm::clip_scale;
use crate::kernel::{Bind, operands, params};

/// Words of codes of a block.
const WORDS: usize = BLOCK / 4;

/// What is the same for all blocks of a step.
struct Update<'a> {
    step: &'a Step,
    scale: f32,
    lr: f32,
    decay: f32,
    p: Params,
    map: &'a [f32],
}

/// A block's slices. The last block may be shorter.
struct Block<'a> {
    weights: &'a mut [f32],
    grads: &'a [f32],
    m: &'a mut [u32],
    v: &'a mut [u32],
    absmax: &'a mut [f32],
}

/// One step; nothing changes when the norm is not finite.
pub(super) fn update(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, m, v, absmax, norm, map] = operands(bound);
    let len = p.len as usize;
    let Some(scale) = clip_scale(step, norm.f32()[0]) else { return };
    let (Bind::Write(m), Bind::Write(v)) = (m, v) else { panic!("the moments are written") };
    let lr = step.lr * p.lr_factor;
    let update = Update { step, scale, lr, decay: 1.0 - lr * p.weight_decay, p, map: map.f32() };
    let absmax = &mut absmax.f32_mut()[2 * p.first_block as usize..];
    let values = weights.f32_mut()[..len].par_chunks_mut(BLOCK).zip(grads.f32()[..len].par_chunks(BLOCK));
    let moments = m[..len.div_ceil(4)].par_chunks_mut(WORDS).zip(v[..len.div_ceil(4)].par_chunks_mut(WORDS));
    values.zip(moments).zip(absmax.par_chunks_mut(2)).with_min_len(16).for_each(
        |(((weights, grads), (m, v)), absmax)| {
            block(&update, Block { weights, grads, m, v, absmax });
        },
    );
}

fn block(u: &Update<'_>, b: Block<'_>) {
    let mut moments = [(0.0f32, 0.0f32); BLOCK];
    let mut largest = [0.0f32; 2];
    let (correction1, correction2) = (u.step.correction1, u.step.correction2);
    for (i, (weight, gradient)) in b.weights.iter_mut().zip(b.grads).enumerate() {
        let code = |words: &[u32]| (words[i / 4] >> (8 * (i % 4)) & 0xff) as usize;
        let gradient = gradient * u.scale;
        let first = u.p.beta1 * (u.map[code(b.m)] * b.absmax[0]) + (1.0 - u.p.beta1) * gradient;
        let second = u.p.beta2 * (u.map[ENTRIES + code(b.v)] * b.absmax[1]) + (1.0 - u.p.beta2) * gradient * gradient;
        let root = (second / correction2).sqrt() + u.p.eps;
        *weight = *weight * u.decay - u.lr * (first / correction1) / root;
        largest = [largest[0].max(first.abs()), largest[1].max(second)];
        moments[i] = (first, second);
    }
    let moments = &moments[..b.weights.len()];
    for ((m, v), moments) in b.m.iter_mut().zip(b.v).zip(moments.chunks(4)) {
        (*m, *v) = (0, 0);
        for (i, &moments) in moments.iter().enumerate() {
            let (first, second) = codes(u.map, moments, largest);
            *m |= first << (8 * i);
            *v |= second << (8 * i);
        }
    }
    b.absmax.copy_from_slice(&largest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adamw_8bit::{self, map};
    use crate::check::{Operand, check};

    #[test]
    fn agrees_with_the_reference() {
        for (len, clip, norm) in [(1usize, 0.0, 1.0f32), (255, 1.0, 4.0), (30_002, 1.0, 0.5), (50, 1.0, f32::NAN)] {
            let p = Params {
                len: len as u32,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.1,
                lr_factor: 2.0,
                first_block: 3,
                pad: 0,
            };
            let step = Step { lr: 1e-3, correction1: 0.19, correction2: 0.002, clip, ..Step::default() };
            let codes: Vec<u32> = (0..len.div_ceil(4) as u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
            let absmax = vec![0.25f32.to_bits(); 2 * (3 + len.div_ceil(BLOCK))];
            let map: Vec<u32> = map().iter().map(|x| x.to_bits()).collect();
            let state = [Operand::u32(&codes), Operand::u32(&codes), Operand::u32(&absmax)];
            let [m, v, absmax] = state;
            let operands = [
                Operand::random(len, 1),
                Operand::random(len, 2),
                m,
                v,
                absmax,
                Operand::u32(&[norm.to_bits()]),
                Operand::u32(&map),
            ];
            check(&step, &adamw_8bit::update(p), &operands);
        }
    }
}
