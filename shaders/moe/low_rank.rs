//! Products of low-rank updates on experts: every pair's row with the small matrix of its own expert, and the gradients
//! of those matrices. All in f32, unquantised; the matrices of all experts lie one below the other.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::simd::slices::{add_scaled, dot};
use crate::{Step, source};

/// Uniform of both kernels.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Pairs of a token and a slot.
    pub pairs: u32,
    /// Experts.
    pub experts: u32,
    /// Pairs that share a row of `a` (`product`) or `b` (`outer`).
    pub slots: u32,
    /// Columns of `c` (`product`), or of `a` (`outer`).
    pub n: u32,
    /// Columns of `a` (`product`), or of `b` (`outer`).
    pub k: u32,
    /// `product` only. 0: an expert's matrix is [n, k]; 1: [k, n].
    pub transposed: u32,
    /// `product` only. 1: add to `c`; 0: overwrite it.
    pub accumulate: u32,
    /// Factor on the product.
    pub alpha: f32,
}

static PRODUCT: Kernel = Kernel::new(&source::MOE_LOW_RANK, product_reference).with_cpu(product_cpu);
static OUTER: Kernel = Kernel::new(&source::MOE_OUTER, outer_reference).with_cpu(outer_cpu);

pub(super) const KERNELS: [&Kernel; 2] = [&PRODUCT, &OUTER];

pub(super) const LAYOUT: Layout = layout!(Params { pairs, experts, slots, n, k, transposed, accumulate, alpha });

/// `c[pair, j] (+)= alpha * sum_k a[pair / slots, k] * w[ids[pair], j, k]`, or `w[ids[pair], k, j]` if `transposed`.
///
/// Bindings: `a[pairs / slots, k]`, `w[experts, n, k]`, `ids u32[pairs]`, `c[pairs, n]`.
pub fn product(params: Params) -> Call {
    Call::new(&PRODUCT, &params, fold_elements(u64::from(params.pairs) * u64::from(params.n)))
}

/// `dw[e, i, j] += alpha * sum of a[pair, i] * b[pair / slots, j]` over the pairs of expert e.
///
/// Bindings: `a[pairs, n]`, `b[pairs / slots, k]`, `counts u32[experts]`, `list u32[pairs]` (the pairs by expert),
/// `dw[experts, n, k]`.
pub fn outer(params: Params) -> Call {
    let elements = u64::from(params.experts) * u64::from(params.n) * u64::from(params.k);
    Call::new(&OUTER, &params, fold_elements(elements))
}

fn product_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, w, ids, c] = operands(bound);
    let (a, w, ids, c) = (a.f32(), w.f32(), ids.words(), c.f32_mut());
    let (n, k) = (p.n as usize, p.k as usize);
    for (pair, &expert) in ids.iter().enumerate().take(p.pairs as usize) {
        for j in 0..n {
            let within = |i: usize| if p.transposed != 0 { i * n + j } else { j * k + i };
            let weight = |i: usize| f64::from(w[expert as usize * n * k + within(i)]);
            let sum: f64 = (0..k).map(|i| f64::from(a[pair / p.slots as usize * k + i]) * weight(i)).sum();
            let kept = if p.accumulate != 0 { c[pair * n + j] } else { 0.0 };
            c[pair * n + j] = kept + p.alpha * sum as f32;
        }
    }
}

fn outer_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, b, counts, list, dw] = operands(bound);
    let (a, b, list, dw) = (a.f32(), b.f32(), list.words(), dw.f32_mut());
    let (n, k) = (p.n as usize, p.k as usize);
    let mut first = 0;
    for (expert, &count) in counts.words()[..p.experts as usize].iter().enumerate() {
        let pairs = &list[first..first + count as usize];
        first += count as usize;
        for i in 0..n {
            for j in 0..k {
                let term =
                    |&pair: &u32| f64::from(a[pair as usize * n + i]) * f64::from(b[(pair / p.slots) as usize * k + j]);
                dw[(expert * n + i) * k + j] += p.alpha * pairs.iter().map(term).sum::<f64>() as f32;
            }
        }
    }
}

/// A task per pair.
fn product_cpu(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, w, ids, c] = operands(bound);
    let (a, w, ids, n, k) = (a.f32(), w.f32(), ids.words(), p.n as usize, p.k as usize);
    c.f32_mut()[..p.pairs as usize * n].par_chunks_exact_mut(n).zip(ids).enumerate().for_each(
        |(pair, (c, &expert))| {
            let a = &a[pair / p.slots as usize * k..][..k];
            let w = &w[expert as usize * n * k..][..n * k];
            if p.accumulate == 0 {
                c.fill(0.0);
            }
            if p.transposed != 0 {
                w.chunks_exact(n).zip(a).for_each(|(w, a)| add_scaled(c, p.alpha * a, w));
            } else {
                c.iter_mut().zip(w.chunks_exact(k)).for_each(|(c, w)| *c += p.alpha * dot(a, w));
            }
        },
    );
}

/// A task per expert, which adds up its pairs in their order.
fn outer_cpu(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, b, counts, list, dw] = operands(bound);
    let (a, b, list, n, k) = (a.f32(), b.f32(), list.words(), p.n as usize, p.k as usize);
    let counts = &counts.words()[..p.experts as usize];
    let firsts = counts.iter().scan(0, |next, count| Some(std::mem::replace(next, *next + *count as usize)));
    let segments: Vec<&[u32]> = firsts.zip(counts).map(|(first, count)| &list[first..][..*count as usize]).collect();
    dw.f32_mut()[..segments.len() * n * k].par_chunks_exact_mut(n * k).zip(segments).for_each(|(dw, pairs)| {
        for &pair in pairs {
            let (a, b) = (&a[pair as usize * n..][..n], &b[(pair / p.slots) as usize * k..][..k]);
            dw.chunks_exact_mut(k).zip(a).for_each(|(dw, a)| add_scaled(dw, p.alpha * a, b));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};

    #[test]
    fn agrees_with_the_reference() {
        for (pairs, experts, slots, n, k) in [(4, 3, 1, 5, 8), (12, 5, 2, 70, 3), (60, 4, 3, 6, 130)] {
            let ids: Vec<u32> = (0..pairs).map(|pair| pair * 7 % (experts - 1)).collect();
            let mut list: Vec<u32> = (0..pairs).collect();
            list.sort_by_key(|pair| ids[*pair as usize]);
            let counts: Vec<u32> = (0..experts).map(|e| ids.iter().filter(|id| **id == e).count() as u32).collect();
            for (transposed, accumulate) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let p = Params { pairs, experts, slots, n, k, transposed, accumulate, alpha: 0.5 };
                let (w, step) = (Operand::random((experts * n * k) as usize, 2), Step::default());
                let len = (pairs * n) as usize;
                let c = if accumulate == 1 { Operand::random(len, 3) } else { Operand::unset(len) };
                let shared = Operand::random((pairs / slots * k) as usize, 1);
                check(&step, &product(p), &[shared.clone(), w.clone(), Operand::u32(&ids), c]);
                check(
                    &step,
                    &outer(p),
                    &[Operand::random(len, 4), shared, Operand::u32(&counts), Operand::u32(&list), w],
                );
            }
        }
    }
}
