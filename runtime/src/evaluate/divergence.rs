//! How far the distributions of one model are from those of another, token by token.

use rayon::prelude::*;

use super::mean::Sums;

/// Turns rows of `vocabulary` logits into log-probabilities.
pub fn log_softmax(logits: &mut [f32], vocabulary: usize) {
    logits.par_chunks_mut(vocabulary).for_each(|row| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&value| f64::from(value - most).exp()).sum();
        let below = most + sum.ln() as f32;
        row.iter_mut().for_each(|value| *value -= below);
    });
}

/// Sums over tokens: of a model beside a reference.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Divergence {
    /// Loss of the model, in nats.
    pub loss: Sums,
    /// Its loss less the reference's.
    pub more: Sums,
    /// Kullback-Leibler divergence of the model from the reference, in nats.
    pub kl: Sums,
    /// 1 where both find the same token the most likely, else 0.
    pub same_top: Sums,
}

impl Divergence {
    /// Adds rows of log-probabilities of a model and of a reference; `labels` are the tokens that came.
    pub fn add(&mut self, reference: &[f32], model: &[f32], labels: &[u32]) {
        let vocabulary = model.len() / labels.len().max(1);
        let rows = reference.par_chunks(vocabulary).zip(model.par_chunks(vocabulary)).zip(labels);
        // Collected in order: the same bits whatever the threads do.
        let rows: Vec<[f64; 4]> = rows.map(|((p, q), label)| row(p, q, *label as usize)).collect();
        for [loss, more, kl, same] in rows {
            self.loss.add(loss);
            self.more.add(more);
            self.kl.add(kl);
            self.same_top.add(same);
        }
    }
}

/// Loss, loss less the reference's, divergence, and whether the likeliest token is the same.
fn row(p: &[f32], q: &[f32], label: usize) -> [f64; 4] {
    let kl = p.iter().zip(q).map(|(&p, &q)| f64::from(p).exp() * (f64::from(p) - f64::from(q))).sum::<f64>();
    let (loss, before) = (-f64::from(q[label]), -f64::from(p[label]));
    // Rounding may leave a divergence of zero a little under it.
    [loss, loss - before, kl.max(0.0), f64::from(u8::from(top(p) == top(q)))]
}

/// The first of the likeliest tokens.
fn top(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, token| if row[token] > row[best] { token } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_distributions_differ_by_what_the_formula_says() {
        let (mut p, mut q) = (vec![0.0f32, 0.0, 1.0, 3.0], vec![0.0f32, 3.0f32.ln(), 1.0, 3.0]);
        log_softmax(&mut p, 2);
        log_softmax(&mut q, 2);
        assert!((p[0] - 0.5f32.ln()).abs() < 1e-6 && (q[1] - 0.75f32.ln()).abs() < 1e-6);
        let mut found = Divergence::default();
        found.add(&p, &q, &[0, 1]);
        // Half of ln(0.5/0.25) and half of ln(0.5/0.75) in the first row, nothing in the second.
        let kl = 0.5 * 2.0f64.ln() + 0.5 * (0.5f64 / 0.75).ln();
        assert!((found.kl.mean().value - kl / 2.0).abs() < 1e-6, "{found:?}");
        assert!((found.more.sum - 2.0f64.ln()).abs() < 1e-6, "{found:?}");
        // Of equals the first is the likeliest: token 0 in the first row of p, token 1 in that of q.
        assert_eq!((found.same_top.sum, found.same_top.count), (1.0, 2));
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let mut row = vec![1e30f32, -1e30];
        log_softmax(&mut row, 2);
        assert_eq!(row[0], 0.0);
        assert!(row[1] < -1e29);
    }
}
