//! Plain loops for routing, sorting and combining: the specification.

use super::{Params, TILE};
use crate::Step;
use crate::kernel::{Bind, operands, params};

pub(super) fn route(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [logits, ids, weights] = operands(bound);
    let (experts, slots) = (p.experts as usize, p.slots as usize);
    let Bind::Write(ids) = ids else { panic!("ids are written") };
    let weights = weights.f32_mut();
    for (token, logits) in logits.f32().chunks_exact(experts).take(p.tokens as usize).enumerate() {
        if logits.iter().any(|logit| logit.is_nan()) {
            // What is wrong with one expert must not be passed over.
            (0..slots).for_each(|slot| ids[token * slots + slot] = slot as u32);
            weights[token * slots..(token + 1) * slots].fill(f32::NAN);
            continue;
        }
        let mut order: Vec<usize> = (0..experts).collect();
        // A stable sort: of equal logits (-0 is 0) the lowest expert comes first.
        order.sort_by(|a, b| (logits[*b] + 0.0).total_cmp(&(logits[*a] + 0.0)));
        let exp = |expert: usize| f64::from(logits[expert] - logits[order[0]]).exp();
        let counted = if p.over_all != 0 { &order[..] } else { &order[..slots] };
        let total: f64 = counted.iter().map(|expert| exp(*expert)).sum();
        for (slot, &expert) in order[..slots].iter().enumerate() {
            ids[token * slots + slot] = expert as u32;
            weights[token * slots + slot] = (exp(expert) / total) as f32;
        }
    }
}

pub(super) fn route_backward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [logits, ids, weights, dweights, dlogits] = operands(bound);
    let logits = logits.f32();
    let (ids, weights, dweights, dlogits) = (ids.words(), weights.f32(), dweights.f32(), dlogits.f32_mut());
    for token in 0..p.tokens as usize {
        let pairs = token * p.slots as usize..(token + 1) * p.slots as usize;
        let product = |pair: usize| f64::from(weights[pair]) * f64::from(dweights[pair]);
        let mean: f64 = pairs.clone().map(product).sum();
        let row = token * p.experts as usize..(token + 1) * p.experts as usize;
        let (logits, dlogits) = (&logits[row.clone()], &mut dlogits[row]);
        let first = pairs.start;
        for (dlogit, logit) in dlogits.iter_mut().zip(logits) {
            let p_of = || f64::from(weights[first]) * f64::from(logit - logits[ids[first] as usize]).exp();
            *dlogit = if p.over_all != 0 { (-p_of() * mean) as f32 } else { 0.0 };
        }
        for pair in pairs {
            dlogits[ids[pair] as usize] = (f64::from(weights[pair]) * (f64::from(dweights[pair]) - mean)) as f32;
        }
    }
}

pub(super) fn count(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [ids, counts] = operands(bound);
    let Bind::Write(counts) = counts else { panic!("counts are written") };
    counts[..p.experts as usize].fill(0);
    for &expert in &ids.words()[..p.pairs() as usize] {
        counts[expert as usize] += 1;
    }
}

pub(super) fn place(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [ids, counts, list, tiles] = operands(bound);
    let (Bind::Write(list), Bind::Write(tiles)) = (list, tiles) else { panic!("list and tiles are written") };
    let mut next = Vec::new();
    let mut tile = 0;
    let mut first = 0;
    tiles[..4 * p.width as usize].fill(0);
    for (expert, &count) in counts.words()[..p.experts as usize].iter().enumerate() {
        next.push(first as usize);
        for start in (0..count).step_by(TILE as usize) {
            tiles[tile..tile + 4].copy_from_slice(&[expert as u32, first + start, TILE.min(count - start), 0]);
            tile += 4;
        }
        first += count;
    }
    for (pair, &expert) in ids.words()[..p.pairs() as usize].iter().enumerate() {
        list[next[expert as usize]] = pair as u32;
        next[expert as usize] += 1;
    }
}

pub(super) fn combine(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [y, weights, out] = operands(bound);
    let (y, weights, out) = (y.f32(), weights.f32(), out.f32_mut());
    let (slots, width) = (p.slots as usize, p.width as usize);
    for (i, out) in out[..p.tokens as usize * width].iter_mut().enumerate() {
        let pairs = i / width * slots..(i / width + 1) * slots;
        let term = |pair: usize| f64::from(weights[pair]) * f64::from(y[pair * width + i % width]);
        *out = pairs.map(term).sum::<f64>() as f32;
    }
}

pub(super) fn combine_backward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [y, weights, dout, dy, dweights] = operands(bound);
    let (y, weights, dout, dy, dweights) = (y.f32(), weights.f32(), dout.f32(), dy.f32_mut(), dweights.f32_mut());
    let width = p.width as usize;
    for pair in 0..p.pairs() as usize {
        let at = pair * width..(pair + 1) * width;
        let dout = &dout[pair / p.slots as usize * width..][..width];
        let product = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
        dweights[pair] = dout.iter().zip(&y[at.clone()]).map(product).sum::<f64>() as f32;
        for (dy, dout) in dy[at].iter_mut().zip(dout) {
            *dy = weights[pair] * dout;
        }
    }
}

pub(super) fn sum(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [dpairs, dx] = operands(bound);
    let (dpairs, dx) = (dpairs.f32(), dx.f32_mut());
    let (slots, width) = (p.slots as usize, p.width as usize);
    for (i, dx) in dx[..p.tokens as usize * width].iter_mut().enumerate() {
        let pairs = i / width * slots..(i / width + 1) * slots;
        let kept = if p.accumulate != 0 { f64::from(*dx) } else { 0.0 };
        *dx = (kept + pairs.map(|pair| f64::from(dpairs[pair * width + i % width])).sum::<f64>()) as f32;
    }
}
