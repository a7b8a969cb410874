//! Fast host function of `cross_entropy`: a task per row.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::simd::Simd;
use crate::simd::slices::{exp, max};
use crate::softcap::cpu::{cap_all, capped, slope};
use crate::step::NONE;

/// Elements that are summed in f32 before the sum continues in f64.
const RUN: usize = 1 << 12;

/// Log-probability of every label, and the gradient in place. A label that is neither in the vocabulary nor [`NONE`]
/// gives NaN.
pub(super) fn forward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [labels, weights, logits, values] = operands(bound);
    let (rows, vocab, offset) = (p.rows as usize, p.vocab as usize, p.offset as usize);
    let labels = &labels.words()[offset..][..rows];
    let weights = &weights.f32()[offset..][..rows];
    let values = &mut values.f32_mut()[offset..][..rows];
    let logits = &mut logits.f32_mut()[..rows * vocab];
    let labels = labels.par_iter().zip(weights);
    let tasks = logits.par_chunks_exact_mut(vocab.max(1)).zip(labels.zip(values));
    tasks.with_max_len(1).for_each(|(row, ((&label, &weight), value))| {
        *value = log_probability(row, label, p.softcap, (p.gradient != 0).then_some(weight));
    });
}

/// The log-probability of `label`; with a `weight` the row becomes its gradient.
fn log_probability(row: &mut [f32], label: u32, cap: f32, weight: Option<f32>) -> f32 {
    if label == NONE {
        if weight.is_some() {
            row.fill(0.0);
        }
        return 0.0;
    }
    // The cap is monotonous, and its slope is known from the value.
    let peak = cap_one(max(row), cap);
    let total = |run: &[f32]| if cap == 0.0 { exp_total(run, peak) } else { capped_total(run, peak, cap) };
    let sum: f64 = row.chunks(RUN).map(|run| f64::from(total(run))).sum();
    let log_sum = f64::from(peak) + sum.ln();
    let logit = row.get(label as usize).map(|&logit| cap_one(logit, cap));
    if let Some(weight) = weight {
        let factor = (f64::from(weight) / sum) as f32;
        match cap {
            0.0 => soften(row, peak, factor),
            cap => capped_soften(row, peak, factor, cap),
        }
        if let (Some(x), Some(logit)) = (row.get_mut(label as usize), logit) {
            *x -= weight * if cap == 0.0 { 1.0 } else { slope(logit, cap) };
        }
    }
    logit.map_or(f32::NAN, |logit| (f64::from(logit) - log_sum) as f32)
}

fn cap_one(x: f32, cap: f32) -> f32 {
    if cap == 0.0 {
        return x;
    }
    let mut x = [x];
    cap_all(&mut x, cap);
    x[0]
}

crate::vectorized! {
    /// [`exp_total`] of soft-capped values
    fn capped_total(x: &[f32], shift: f32, cap: f32) -> f32 = capped_total_body
}
crate::vectorized! {
    /// [`soften`] of soft-capped values, times the cap's slope
    fn capped_soften(x: &mut [f32], shift: f32, factor: f32, cap: f32) = capped_soften_body
}
crate::vectorized! {
    /// `sum_i exp(x[i] - shift)`
    fn exp_total(x: &[f32], shift: f32) -> f32 = exp_total_body
}
crate::vectorized! {
    /// `x[i] = exp(x[i] - shift) * factor`
    fn soften(x: &mut [f32], shift: f32, factor: f32) = soften_body
}

#[inline(always)]
fn exp_total_body<S: Simd>(simd: S, x: &[f32], shift: f32) -> f32 {
    let mut sums = [0.0; crate::simd::LANES];
    for run in x.chunks(crate::simd::LANES) {
        for (sum, x) in sums.iter_mut().zip(run) {
            *sum += exp::<S>(x - shift);
        }
    }
    simd.sum(simd.load(&sums))
}

#[inline(always)]
fn capped_total_body<S: Simd>(simd: S, x: &[f32], shift: f32, cap: f32) -> f32 {
    let mut sums = [0.0; crate::simd::LANES];
    for run in x.chunks(crate::simd::LANES) {
        for (sum, x) in sums.iter_mut().zip(run) {
            *sum += exp::<S>(capped::<S>(*x, cap) - shift);
        }
    }
    simd.sum(simd.load(&sums))
}

#[inline(always)]
fn capped_soften_body<S: Simd>(_: S, x: &mut [f32], shift: f32, factor: f32, cap: f32) {
    for x in x {
        let value = capped::<S>(*x, cap);
        *x = exp::<S>(value - shift) * factor * slope(value, cap);
    }
}

#[inline(always)]
fn soften_body<S: Simd>(_: S, x: &mut [f32], shift: f32, factor: f32) {
    for x in x {
        *x = exp::<S>(*x - shift) * factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, Random, check};
    use crate::cross_entropy;

    #[test]
    fn agrees_with_the_reference() {
        for (rows, vocab, offset) in [(1, 1, 0), (5, 37, 3), (9, 50_001, 1)] {
            for (gradient, softcap) in [(0, 0.0), (1, 0.0), (0, 15.0), (1, 15.0)] {
                let p = Params { rows, vocab, offset, gradient, softcap, ..Params::default() };
                let label = |i: u32| if i % 4 == 2 { NONE } else { i * 7_919 % vocab };
                let labels: Vec<u32> = (0..rows + offset).map(label).collect();
                let logits: Vec<u32> =
                    Random::new(1).values((rows * vocab) as usize).iter().map(|x| (x * 20.0).to_bits()).collect();
                let length = (rows + offset) as usize;
                let logits = Operand::u32(&logits);
                let operands = [Operand::u32(&labels), Operand::random(length, 3), logits, Operand::random(length, 2)];
                check(&Step::default(), &cross_entropy::forward(p), &operands);
            }
        }
    }

    #[test]
    fn labels_outside_of_the_vocabulary_and_bad_logits_give_nan() {
        for (label, logit) in [(9, 0.0), (NONE - 1, 0.0), (1, f32::NAN), (1, f32::INFINITY)] {
            let mut row = [0.5, 1.0, logit];
            assert!(log_probability(&mut row, label, 0.0, None).is_nan(), "{label} {logit}");
        }
    }
}
