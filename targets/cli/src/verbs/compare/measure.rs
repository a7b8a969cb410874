//! The windows of a group with one model.

use std::time::Instant;

use loam::Base;
use loam::data::Example;
use loam::engine::{AdapterHandle, Engine};
use loam::evaluate::{Divergence, Sums, log_softmax};
use loam::generate::Session;

use crate::args::DeviceArgs;
use crate::failure::{Failure, Result};
use crate::model;

/// Tokens that are generated to measure how fast that is, once per model.
const GENERATED: usize = 16;

/// Tokens of a window that are scored: those of its second half, but for the first of it.
pub fn scored(context: usize) -> usize {
    context - 1 - context / 2
}

/// What is run.
pub struct Run<'a> {
    /// Where.
    pub device: &'a DeviceArgs,
    /// Windows of `context` tokens.
    pub windows: &'a [Example],
    /// Tokens of a window.
    pub context: usize,
    /// Tokens that the models know.
    pub vocabulary: usize,
}

/// Takes the number of a window, the tokens that come, and log-probabilities of all tokens at each place.
type Take<'a> = dyn FnMut(usize, &[u32], Vec<f32>) + 'a;

/// What was measured of a model so far.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Its distributions beside the reference's.
    pub divergence: Divergence,
    /// Tokens of prompts, and the seconds that they took.
    prompt: (usize, f64),
    /// Generated tokens, and the seconds that they took.
    generated: (usize, f64),
}

impl Measured {
    /// Tokens of a prompt in a second.
    pub fn prompt_speed(&self) -> f64 {
        self.prompt.0 as f64 / self.prompt.1
    }

    /// Generated tokens in a second.
    pub fn generate_speed(&self) -> f64 {
        self.generated.0 as f64 / self.generated.1
    }

    /// Runs the reference: its losses are added, its log-probabilities in each window returned.
    pub fn reference(&mut self, run: &Run<'_>, base: &Base, told: &mut dyn FnMut(usize)) -> Result<Vec<Vec<f32>>> {
        let mut kept = Vec::with_capacity(run.windows.len());
        let losses = &mut Sums::default();
        self.windows(run, base, told, &mut |_, labels, logits| {
            let rows = logits.chunks_exact(run.vocabulary).zip(labels);
            rows.for_each(|(row, &label)| losses.add(-f64::from(row[label as usize])));
            kept.push(logits);
        })?;
        self.divergence.loss.join(losses);
        Ok(kept)
    }

    /// Runs another model on the same windows, and compares with what the reference has left.
    pub fn beside(&mut self, run: &Run<'_>, base: &Base, kept: &[Vec<f32>], told: &mut dyn FnMut(usize)) -> Result {
        let mut divergence = self.divergence;
        self.windows(run, base, told, &mut |window, labels, logits| divergence.add(&kept[window], &logits, labels))?;
        self.divergence = divergence;
        Ok(())
    }

    /// Hands the scored places of each window to `take`.
    fn windows(&mut self, run: &Run<'_>, base: &Base, told: &mut dyn FnMut(usize), take: &mut Take<'_>) -> Result {
        let mut engine = model::engine(base, run.device)?;
        let mut session = pollster::block_on(Session::new(&mut engine, run.context, &AdapterHandle::none()))?;
        let half = run.context / 2;
        for (index, window) in run.windows.iter().enumerate() {
            session.truncate(0);
            let tokens = &window.tokens;
            let start = Instant::now();
            pollster::block_on(session.feed(&mut engine, &tokens[..half]))?;
            self.prompt = (self.prompt.0 + half, self.prompt.1 + start.elapsed().as_secs_f64());
            let scored = &tokens[half..run.context - 1];
            let mut logits = pollster::block_on(session.feed_all(&mut engine, scored))?;
            log_softmax(&mut logits, run.vocabulary);
            if logits.iter().any(|value| value.is_nan()) {
                let message =
                    format!("{}: the model computes values that are not finite", base.gguf().path().display());
                return Err(Failure::new(
                    message,
                    "`loam inspect --verify FILE` finds the weights that are not finite",
                ));
            }
            take(index, &tokens[half + 1..], logits);
            told(1);
        }
        if self.generated.0 == 0 {
            self.generate(&mut engine, &mut session, run)?;
        }
        Ok(())
    }

    /// Measures how fast single tokens are: those of the second half of the last window.
    fn generate(&mut self, engine: &mut Engine, session: &mut Session, run: &Run<'_>) -> Result {
        let half = run.context / 2;
        let Some(window) = run.windows.last() else { return Ok(()) };
        let tokens = &window.tokens[half..run.context.min(half + GENERATED)];
        session.truncate(half);
        // The first one compiles what a single token needs.
        pollster::block_on(session.feed(engine, &tokens[..1]))?;
        let start = Instant::now();
        for token in &tokens[1..] {
            pollster::block_on(session.feed(engine, &[*token]))?;
        }
        self.generated = (tokens.len() - 1, start.elapsed().as_secs_f64());
        Ok(())
    }
}
