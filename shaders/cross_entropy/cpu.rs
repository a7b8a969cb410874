//! Fast host function of `cross_entropy`: a task per row.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::simd::Simd;
use crate::simd::slices::{exp, max};
use crate::step::NONE;

/// Elements that are summed in f32 before the sum goes on in f64.
const RUN: usize = 1 << 12;

/// Loss of every row, and its gradient in place. A label that is neither in the vocabulary nor [`NONE`] gives NaN.
pub(super) fn forward(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [labels, logits, losses] = operands(bound);
    let (rows, vocab, offset) = (p.rows as usize, p.vocab as usize, p.offset as usize);
    let labels = &labels.words()[offset..][..rows];
    let losses = &mut losses.f32_mut()[offset..][..rows];
    let logits = &mut logits.f32_mut()[..rows * vocab];
    let gradient = (p.gradient != 0).then_some(step.loss_scale);
    let tasks = logits.par_chunks_exact_mut(vocab.max(1)).zip(labels.par_iter().zip(losses));
    tasks.with_max_len(1).for_each(|(row, (&label, loss))| *loss = row_loss(row, label, gradient));
}

fn row_loss(row: &mut [f32], label: u32, gradient: Option<f32>) -> f32 {
    if label == NONE {
        if gradient.is_some() {
            row.fill(0.0);
        }
        return 0.0;
    }
    let peak = max(row);
    let sum: f64 = row.chunks(RUN).map(|run| f64::from(exp_total(run, peak))).sum();
    let log_sum = f64::from(peak) + sum.ln();
    let loss = row.get(label as usize).map_or(f32::NAN, |&logit| (log_sum - f64::from(logit)) as f32);
    if let Some(scale) = gradient {
        soften(row, peak, (f64::from(scale) / sum) as f32);
        if let Some(x) = row.get_mut(label as usize) {
            *x -= scale;
        }
    }
    loss
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
fn soften_body<S: Simd>(_: S, x: &mut [f32], shift: f32, factor: f32) {
    for x in x {
        *x = exp::<S>(*x - shift) * factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{check, values, words};
    use crate::{check, cross_entropy};

    #[test]
    fn agrees_with_the_reference() {
        for (rows, vocab, offset) in [(1, 1, 0), (5, 37, 3), (9, 50_001, 1)] {
            for gradient in [0, 1] {
                let p = Params { rows, vocab, offset, gradient };
                let label = |i: u32| if i % 4 == 2 { NONE } else { i * 7_919 % vocab };
                let labels: Vec<u32> = (0..rows + offset).map(label).collect();
                let logits: Vec<u32> =
                    values((rows * vocab) as usize, 1).iter().map(|x| (x * 20.0).to_bits()).collect();
                let operands = [words(&labels), words(&logits), check::random((rows + offset) as usize, 2)];
                let step = Step { loss_scale: 0.125, ..Step::default() };
                check(&step, &cross_entropy::forward(p), &operands);
            }
        }
    }

    #[test]
    fn labels_outside_of_the_vocabulary_and_bad_logits_give_nan() {
        for (label, logit) in [(9, 0.0), (NONE - 1, 0.0), (1, f32::NAN), (1, f32::INFINITY)] {
            let mut row = [0.5, 1.0, logit];
            assert!(row_loss(&mut row, label, None).is_nan(), "{label} {logit}");
        }
    }
}
