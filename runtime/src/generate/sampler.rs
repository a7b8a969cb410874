//! Sampling of the next token from logits.
//!
//! Order and meaning as in llama.cpp's default chain: repeat penalty, top-k, top-p, min-p, temperature, draw. Random
//! numbers are a function of (seed, position), so a generation can be resumed at any token and a run repeats exactly.

use crate::option::OptionError;
use crate::{Error, Result, random};

/// Stream of random numbers for sampling.
const STREAM: u32 = 0x7361_6d70;

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerOptions {
    /// 0 (or less) takes the most likely token; otherwise logits are divided by it.
    pub temperature: f32,
    /// Keeps the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of most likely tokens whose probabilities add up to p; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens that are at least this fraction as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalty looks at.
    pub repeat_last: usize,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Default for SamplerOptions {
    /// llama.cpp's defaults: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, no penalty, 64 recent tokens.
    fn default() -> Self {
        SamplerOptions {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last: 64,
            seed: 0,
        }
    }
}

impl SamplerOptions {
    /// The most likely token, always.
    pub fn greedy() -> Self {
        SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }
    }

    /// # Errors
    /// [`Error::Argument`] naming the option that is out of its range.
    pub fn check(&self) -> Result<()> {
        let ranges = [
            ("temperature", self.temperature, 0.0, 1e6),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repeat_penalty", self.repeat_penalty, 1e-3, 1e3),
        ];
        for (name, value, low, high) in ranges {
            // A NaN is in no range.
            if !(low..=high).contains(&value) {
                return Err(OptionError::range(name, value, format!("from {low} to {high}")).into());
            }
        }
        Ok(())
    }
}

/// Chooses tokens. Keeps one scratch list, so that sampling allocates nothing after the first token.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplerOptions,
    candidates: Vec<Candidate>,
    penalized: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Sampler {
    /// A sampler.
    ///
    /// # Errors
    /// [`Error::Argument`] for an option out of its range.
    pub fn new(options: SamplerOptions) -> Result<Self> {
        options.check()?;
        Ok(Sampler { options, candidates: Vec::new(), penalized: Vec::new() })
    }

    /// The next token after `history` (all tokens so far, prompt included), given the logits of the whole vocabulary.
    /// The random number depends on the seed and on `history.len()` only. Among equal logits the lowest id wins.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a logit is NaN or +infinity, or all are -infinity; [`Error::Argument`] if there are
    /// none.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32> {
        if logits.is_empty() {
            return Err(Error::Argument("no logits to sample from".into()));
        }
        if let Some(id) = logits.iter().position(|&x| x.is_nan() || x == f32::INFINITY) {
            return Err(Error::NonFinite(format!("the logit of token {id}")));
        }
        self.candidates.clear();
        self.candidates.extend(logits.iter().enumerate().map(|(id, &logit)| Candidate { id: id as u32, logit }));
        self.penalize(history);
        if self.options.temperature <= 0.0 {
            return self.greedy();
        }
        self.top_k();
        self.nucleus();
        self.draw(random::uniform(self.options.seed, STREAM, history.len() as u64))
    }

    fn greedy(&self) -> Result<u32> {
        let first = Candidate { id: 0, logit: f32::NEG_INFINITY };
        let best = self.candidates.iter().fold(first, |best, c| if c.logit > best.logit { *c } else { best });
        finite(best)?;
        Ok(best.id)
    }

    /// Each recent token once, however often it occurs (Keskar et al. 2019, as llama.cpp applies it).
    fn penalize(&mut self, history: &[u32]) {
        if self.options.repeat_penalty == 1.0 {
            return;
        }
        self.penalized.clear();
        self.penalized.extend(&history[history.len().saturating_sub(self.options.repeat_last)..]);
        self.penalized.sort_unstable();
        self.penalized.dedup();
        for &id in &self.penalized {
            let Some(candidate) = self.candidates.get_mut(id as usize) else { continue };
            if candidate.logit > 0.0 {
                candidate.logit /= self.options.repeat_penalty;
            } else {
                candidate.logit *= self.options.repeat_penalty;
            }
        }
    }

    /// Sorts the kept candidates by falling logit, then rising id.
    fn top_k(&mut self) {
        let order = |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id));
        let k = match self.options.top_k {
            0 => self.candidates.len(),
            k => k.min(self.candidates.len()),
        };
        if k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, order);
            self.candidates.truncate(k);
        }
        self.candidates.sort_unstable_by(order);
    }

    /// Top-p, then min-p. At least one candidate stays.
    fn nucleus(&mut self) {
        let Some(best) = self.candidates.first().map(|c| c.logit) else { return };
        if self.options.top_p < 1.0 {
            let weight = |c: &Candidate| f64::from(c.logit - best).exp();
            let total: f64 = self.candidates.iter().map(weight).sum();
            let mut sum = 0.0;
            let enough = self.candidates.iter().position(|c| {
                sum += weight(c) / total;
                sum >= f64::from(self.options.top_p)
            });
            self.candidates.truncate(enough.map_or(self.candidates.len(), |at| at + 1));
        }
        if self.options.min_p > 0.0 {
            let least = best + self.options.min_p.ln();
            self.candidates.retain(|c| c.logit >= least || c.logit == best);
        }
    }

    /// Draws from the softmax of the candidates at the temperature; `u` is uniform in [0, 1).
    fn draw(&self, u: f64) -> Result<u32> {
        let first = *self.candidates.first().ok_or_else(|| Error::Argument("no logits to sample from".into()))?;
        finite(first)?;
        let temperature = f64::from(self.options.temperature);
        let weight = |c: &Candidate| ((f64::from(c.logit) - f64::from(first.logit)) / temperature).exp();
        let target = u * self.candidates.iter().map(weight).sum::<f64>();
        let mut sum = 0.0;
        let drawn = self.candidates.iter().find(|c| {
            sum += weight(c);
            sum > target
        });
        // Rounding can leave the target just above the last sum.
        Ok(drawn.unwrap_or(&first).id)
    }
}

/// A best candidate of -infinity means that there is no distribution.
fn finite(best: Candidate) -> Result<()> {
    if best.logit == f32::NEG_INFINITY {
        return Err(Error::NonFinite("every logit".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything off but the temperature.
    fn plain(temperature: f32) -> SamplerOptions {
        SamplerOptions { temperature, top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplerOptions::default() }
    }

    /// How often each token comes up in `n` draws.
    fn frequencies(options: SamplerOptions, logits: &[f32], n: usize) -> Vec<f64> {
        let mut sampler = Sampler::new(options).unwrap();
        let mut counts = vec![0; logits.len()];
        let mut history = Vec::new();
        for _ in 0..n {
            let id = sampler.sample(logits, &history).unwrap();
            counts[id as usize] += 1;
            history.push(id);
        }
        counts.into_iter().map(|count| f64::from(count) / n as f64).collect()
    }

    fn logs(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        // 20,000 draws: the standard deviation is at most 0.0036.
        let near = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 0.015);
        assert!(near, "{found:?} instead of {expected:?}");
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let mut sampler = Sampler::new(SamplerOptions::greedy()).unwrap();
        assert_eq!(sampler.sample(&[1.0, 3.0, 3.0, -1.0], &[]).unwrap(), 1);
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY, -5.0], &[]).unwrap(), 1);
    }

    #[test]
    fn draws_follow_the_softmax() {
        let p = [0.1, 0.6, 0.3];
        close(&frequencies(plain(1.0), &logs(&p), 20_000), &[0.1, 0.6, 0.3]);
        // Temperature 0.5 squares the probabilities, 2 takes their roots.
        close(&frequencies(plain(0.5), &logs(&p), 20_000), &[0.01 / 0.46, 0.36 / 0.46, 0.09 / 0.46]);
        let roots = p.map(|p| f64::from(p).sqrt());
        let total: f64 = roots.iter().sum();
        close(&frequencies(plain(2.0), &logs(&p), 20_000), &roots.map(|r| r / total));
    }

    #[test]
    fn filters_keep_what_they_should() {
        let p = logs(&[0.05, 0.5, 0.25, 0.2]);
        let kept = |options| frequencies(options, &p, 20_000);
        close(&kept(SamplerOptions { top_k: 2, ..plain(1.0) }), &[0.0, 2.0 / 3.0, 1.0 / 3.0, 0.0]);
        close(&kept(SamplerOptions { top_p: 0.6, ..plain(1.0) }), &[0.0, 2.0 / 3.0, 1.0 / 3.0, 0.0]);
        close(&kept(SamplerOptions { top_p: 0.0, ..plain(1.0) }), &[0.0, 1.0, 0.0, 0.0]);
        close(&kept(SamplerOptions { min_p: 0.45, ..plain(1.0) }), &[0.0, 2.0 / 3.0, 1.0 / 3.0, 0.0]);
        close(&kept(SamplerOptions { min_p: 1.0, ..plain(1.0) }), &[0.0, 1.0, 0.0, 0.0]);
        // Top-p sees probabilities after top-k: of {2/3, 1/3} the first alone reaches 0.6.
        close(&kept(SamplerOptions { top_k: 2, top_p: 0.6, ..plain(1.0) }), &[0.0, 1.0, 0.0, 0.0]);
        // The filters come before the temperature: a high one does not widen the nucleus.
        let hot = kept(SamplerOptions { top_p: 0.6, ..plain(1e6) });
        close(&hot, &[0.0, 0.5, 0.5, 0.0]);
    }

    #[test]
    fn ties_at_the_cut_go_to_the_lower_id() {
        let found = frequencies(SamplerOptions { top_k: 2, ..plain(1.0) }, &[0.0; 5], 2_000);
        assert_eq!(found[2..], [0.0; 3]);
        assert!(found[0] > 0.4 && found[1] > 0.4);
    }

    #[test]
    fn repeat_penalty_weakens_recent_tokens_once() {
        let options = SamplerOptions { repeat_penalty: 2.0, repeat_last: 2, ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options).unwrap();
        assert_eq!(sampler.sample(&[1.5, 2.0], &[1, 1]).unwrap(), 0, "2 / 2 < 1.5");
        assert_eq!(sampler.sample(&[0.9, 2.0], &[1, 1]).unwrap(), 1, "not divided twice");
        assert_eq!(sampler.sample(&[1.5, 2.0], &[1, 0, 0]).unwrap(), 1, "token 1 is too long ago");
        assert_eq!(sampler.sample(&[-1.0, -1.5], &[0]).unwrap(), 1, "negative logits are multiplied");
        assert_eq!(sampler.sample(&[1.5, 2.0], &[u32::MAX]).unwrap(), 1, "an unknown id is ignored");
    }

    #[test]
    fn seed_and_position_decide() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32).sin()).collect();
        let run = |seed| {
            let mut sampler = Sampler::new(SamplerOptions { seed, ..plain(1.0) }).unwrap();
            (0..50).map(|n| sampler.sample(&logits, &vec![7; n]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let mut late = Sampler::new(SamplerOptions { seed: 1, ..plain(1.0) }).unwrap();
        assert_eq!(late.sample(&logits, &[7; 30]).unwrap(), run(1)[30], "resuming gives the same token");
    }

    #[test]
    fn what_is_no_distribution_is_an_error() {
        let mut sampler = Sampler::new(SamplerOptions::default()).unwrap();
        let mut greedy = Sampler::new(SamplerOptions::greedy()).unwrap();
        for bad in [[0.0, f32::NAN], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]] {
            assert!(matches!(sampler.sample(&bad, &[]), Err(Error::NonFinite(_))), "{bad:?}");
            assert!(matches!(greedy.sample(&bad, &[]), Err(Error::NonFinite(_))), "{bad:?}");
        }
        assert!(sampler.sample(&[], &[]).is_err());
        for temperature in [f32::NAN, -1.0, f32::INFINITY] {
            assert!(matches!(Sampler::new(plain(temperature)), Err(Error::Option(_))));
        }
        assert!(Sampler::new(SamplerOptions { top_p: 1.5, ..plain(1.0) }).is_err());
        assert!(Sampler::new(SamplerOptions { repeat_penalty: 0.0, ..plain(1.0) }).is_err());
    }
}
