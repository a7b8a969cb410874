//! A session: one sequence with a cache to itself, fed with tokens and asked for logits or text.

use std::ops::ControlFlow;

use super::blocks::Sequence;
use super::runner::{Feed, LOGIT_ROWS, Room, Runner, Shape};
use super::sampler::{Sampler, SamplerOptions};
use crate::engine::{AdapterHandle, Engine};
use crate::error::Result;
use crate::plan::Plan;

/// When a generation ends, and how tokens are chosen.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
}

/// A sequence of up to `context` tokens on an engine, with its keys and values.
#[derive(Debug)]
pub struct Session {
    runner: Runner,
    sequence: Sequence,
    /// What is in the cache.
    tokens: Vec<u32>,
}

impl Session {
    /// Makes room for `context` tokens on `engine`, for a model with `adapters`.
    ///
    /// # Errors
    /// Adapters of another engine, or a device without enough memory.
    pub async fn new(engine: &mut Engine, context: usize, adapters: &AdapterHandle) -> Result<Self> {
        adapters.check(engine)?;
        let runner = Runner::new(engine, Room { tokens: context, context }).await?;
        let sequence = runner.sequence(adapters);
        Ok(Self { runner, sequence, tokens: Vec::new() })
    }

    /// Tokens in the cache.
    pub fn past(&self) -> usize {
        self.sequence.len()
    }

    /// Most tokens that the cache holds.
    pub fn context(&self) -> usize {
        self.runner.context()
    }

    /// Keeps only the first `tokens` tokens of the cache.
    pub fn truncate(&mut self, tokens: usize) {
        self.sequence.truncate(tokens);
        self.tokens.truncate(tokens);
    }

    /// Appends `tokens` and returns the logits `[V]` after the last one.
    ///
    /// # Errors
    /// As [`Runner::step`].
    pub async fn feed(&mut self, engine: &mut Engine, tokens: &[u32]) -> Result<Vec<f32>> {
        let feed = Feed { sequence: &mut self.sequence, tokens };
        let logits = self.runner.step(engine, &mut [feed]).await;
        self.remember(tokens);
        Ok(logits?.into_iter().flatten().collect())
    }

    /// Appends `tokens` and returns the logits after each of them, [T, V] row-major.
    ///
    /// # Errors
    /// As [`Runner::step`].
    pub async fn feed_all(&mut self, engine: &mut Engine, tokens: &[u32]) -> Result<Vec<f32>> {
        let logits = self.runner.step_all(engine, Feed { sequence: &mut self.sequence, tokens }).await;
        self.remember(tokens);
        logits
    }

    /// Notes tokens that were fed, as far as they are in the cache: an error may have come before their end.
    fn remember(&mut self, tokens: &[u32]) {
        self.tokens.extend(tokens);
        self.tokens.truncate(self.sequence.len());
    }

    /// The plan of runs of `tokens` tokens with logits after the last one, or after up to 32 of them.
    pub fn plan(&self, engine: &Engine, tokens: usize, all: bool) -> Plan {
        let logit_rows = if all { LOGIT_ROWS } else { 1 };
        self.runner.plan(engine, &self.sequence.adapters, Shape { tokens, logit_rows, apart: tokens == 1 })
    }

    /// Continues the sequence `tokens` token by token until `max_tokens`, an end token, a full context, or `on_token`
    /// says stop. What `tokens` and the cache begin with alike is not computed again. Returns the new tokens, without
    /// the end token.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub async fn generate(
        &mut self,
        engine: &mut Engine,
        tokens: &[u32],
        options: &GenerateOptions,
        is_end: &dyn Fn(u32) -> bool,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Vec<u32>> {
        let mut sampler = Sampler::new(options.sampler.clone())?;
        let shared = self.tokens.iter().zip(tokens).take_while(|(cached, token)| cached == token).count();
        // The last token always runs, for its logits.
        self.truncate(shared.min(tokens.len().saturating_sub(1)));
        let mut seen = tokens.to_vec();
        let mut logits = self.feed(engine, &tokens[self.past()..]).await?;
        for left in (0..options.max_tokens).rev() {
            let token = sampler.sample(&logits, &seen)?;
            if is_end(token) {
                break;
            }
            seen.push(token);
            if on_token(token).is_break() || left == 0 || self.past() == self.context() {
                break;
            }
            logits = self.feed(engine, &[token]).await?;
        }
        Ok(seen.split_off(tokens.len()))
    }
}
