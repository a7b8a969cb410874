//! Fast host functions of routing and combining: tasks of whole tokens. Sorting is one pass and runs as its reference.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::simd::slices::{add_scaled, dot};

/// Elements of a task.
const TASK: usize = 1 << 14;

/// The largest logits of every token and their softmax.
pub(super) fn route(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [logits, ids, weights] = operands(bound);
    let (experts, slots) = (p.experts as usize, p.slots as usize);
    let Bind::Write(ids) = ids else { panic!("ids are written") };
    let outputs = ids.par_chunks_exact_mut(slots).zip(weights.f32_mut().par_chunks_exact_mut(slots));
    let logits = logits.f32()[..p.tokens as usize * experts].par_chunks_exact(experts);
    outputs.zip(logits).for_each(|((ids, weights), logits)| {
        if logits.iter().any(|logit| logit.is_nan()) {
            // What is wrong with one expert must not be passed over.
            ids.iter_mut().zip(0..).for_each(|(id, slot)| *id = slot);
            weights.fill(f32::NAN);
            return;
        }
        for (slot, weight) in weights.iter_mut().enumerate() {
            let (taken, rest) = ids.split_at_mut(slot);
            let best = (0..experts).filter(|expert| !taken.contains(&(*expert as u32)));
            let best = best.fold(None, |best: Option<usize>, expert| match best {
                Some(best) if (logits[best] + 0.0).total_cmp(&(logits[expert] + 0.0)).is_ge() => Some(best),
                _ => Some(expert),
            });
            rest[0] = best.unwrap_or_default() as u32;
            *weight = (logits[rest[0] as usize] - logits[ids[0] as usize]).exp();
        }
        let largest = logits[ids[0] as usize];
        let total: f32 = match p.over_all {
            0 => weights.iter().sum(),
            _ => logits.iter().map(|logit| (logit - largest).exp()).sum(),
        };
        weights.iter_mut().for_each(|weight| *weight /= total);
    });
}

/// `out[t] = sum_j weights[t, j] * y[t * slots + j]`
pub(super) fn combine(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [y, weights, out] = operands(bound);
    let (slots, width) = (p.slots as usize, p.width as usize);
    let out = out.f32_mut()[..p.tokens as usize * width].par_chunks_exact_mut(width);
    let inputs = y.f32().par_chunks_exact(slots * width).zip(weights.f32().par_chunks_exact(slots));
    out.zip(inputs).with_min_len((TASK / width).max(1)).for_each(|(out, (y, weights))| {
        out.fill(0.0);
        for (y, weight) in y.chunks_exact(width).zip(weights) {
            add_scaled(out, *weight, y);
        }
    });
}

/// `dy[pair] = weights[pair] * dout[t]`, `dweights[pair] = dout[t] . y[pair]`
pub(super) fn combine_backward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [y, weights, dout, dy, dweights] = operands(bound);
    let (slots, width) = (p.slots as usize, p.width as usize);
    let outputs = dy.f32_mut().par_chunks_exact_mut(width).zip(&mut dweights.f32_mut()[..p.pairs() as usize]);
    let inputs = y.f32().par_chunks_exact(width).zip(weights.f32());
    let dout = dout.f32();
    let pairs = outputs.zip(inputs).enumerate().with_min_len((TASK / width).max(1));
    pairs.for_each(|(pair, ((dy, dweight), (y, weight)))| {
        let dout = &dout[pair / slots * width..][..width];
        *dweight = dot(dout, y);
        dy.iter_mut().zip(dout).for_each(|(dy, dout)| *dy = weight * dout);
    });
}

/// `dx[t] (+)= sum_j dpairs[t * slots + j]`
pub(super) fn sum(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [dpairs, dx] = operands(bound);
    let (slots, width) = (p.slots as usize, p.width as usize);
    let dx = dx.f32_mut()[..p.tokens as usize * width].par_chunks_exact_mut(width);
    let tokens = dx.zip(dpairs.f32().par_chunks_exact(slots * width)).with_min_len((TASK / width).max(1));
    tokens.for_each(|(dx, dpairs)| {
        if p.accumulate == 0 {
            dx.fill(0.0);
        }
        for dpair in dpairs.chunks_exact(width) {
            dx.iter_mut().zip(dpair).for_each(|(dx, d)| *dx += d);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::moe;

    #[test]
    fn agrees_with_the_reference() {
        for (tokens, experts, slots, width) in [(1, 4, 1, 4), (5, 6, 6, 36), (70, 64, 8, 300)] {
            for accumulate in [0, 1] {
                // The softmax is over all experts in one of both runs.
                let over_all = accumulate;
                let p = Params { tokens, experts, slots, width, accumulate, over_all, ..Default::default() };
                let (pairs, step) = (p.pairs() as usize, Step::default());
                let (wide, narrow) = (pairs * width as usize, (tokens * width) as usize);
                let logits = Operand::random((tokens * experts) as usize, 1);
                check(&step, &moe::route(p), &[logits, Operand::u32(&vec![0; pairs]), Operand::unset(pairs)]);
                let (y, weights) = (Operand::random(wide, 2), Operand::random(pairs, 3));
                check(&step, &moe::combine(p), &[y.clone(), weights.clone(), Operand::unset(narrow)]);
                let outputs = [Operand::unset(wide), Operand::unset(pairs)];
                let [dy, dweights] = outputs;
                check(
                    &step,
                    &moe::combine_backward(p),
                    &[y.clone(), weights, Operand::random(narrow, 4), dy, dweights],
                );
                check(&step, &moe::sum(p), &[y, Operand::random(narrow, 5)]);
            }
        }
    }
}
