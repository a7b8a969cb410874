//! A session: a base on a device with a KV cache, fed with tokens and asked for logits or text.

use std::collections::HashMap;
use std::ops::ControlFlow;

use loam_shaders::Step;

use super::sampler::{Sampler, SamplerOptions};
use crate::backend::ProgramId;
use crate::engine::{AdapterHandle, Engine, InputBuffers, Resources, list};
use crate::error::{Error, Result};
use crate::host;
use crate::model::{Cache, Keys, ModelConfig, Pass, forward, logits};
use crate::plan::{Checkpointing, Content, Plan, Pool, StorageId, Tensor};

/// Tokens per run, smallest first: a run is padded up to the next of these.
const CHUNKS: [usize; 4] = [1, 8, 32, 128];

/// Rows of logits per run when all of them are wanted.
const LOGIT_ROWS: usize = 32;

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
    resources: Resources,
    adapters: AdapterHandle,
    cache: Cache,
    inputs: InputBuffers,
    logits: StorageId,
    /// By (tokens, rows of logits).
    programs: HashMap<(usize, usize), ProgramId>,
    /// The plan of one token, until it is compiled.
    decode: Option<Plan>,
    context: usize,
    past: usize,
}

impl Session {
    /// Makes room for `context` tokens on `engine`, for a model with `adapters`.
    ///
    /// # Errors
    /// Adapters of another engine, or a device without enough memory.
    pub fn new(engine: &mut Engine, context: usize, adapters: &AdapterHandle) -> Result<Self> {
        adapters.check(engine)?;
        host::check("the cache", cache_bytes(&engine.config, context))?;
        let mut resources = engine.resources();
        let largest = CHUNKS[CHUNKS.len() - 1];
        // Padding tokens of the last run may lie behind the context: their keys get room too, but are never seen.
        let capacity = context + largest;
        let cache = cache(engine, &mut resources, capacity)?;
        let inputs = InputBuffers::new(engine, &mut resources, largest, context, capacity)?;
        let words = (LOGIT_ROWS * engine.config.vocabulary) as u64;
        let logits = engine.add(&mut resources, "logits", Pool::Inputs, words, Content::Zeros)?;
        let (adapters, programs) = (adapters.clone(), HashMap::new());
        let mut session = Self { resources, adapters, cache, inputs, logits, programs, decode: None, context, past: 0 };
        let decode = session.plan(engine, 1, 1);
        engine.allocate(&[&decode])?;
        session.decode = Some(decode);
        Ok(session)
    }

    /// Tokens in the cache.
    pub fn past(&self) -> usize {
        self.past
    }

    /// Most tokens that the cache holds.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Keeps only the first `tokens` tokens of the cache.
    pub fn truncate(&mut self, tokens: usize) {
        self.past = self.past.min(tokens);
    }

    /// Appends `tokens` and returns the logits [V] after the last one.
    ///
    /// # Errors
    /// No tokens, a token outside the vocabulary, a full context, a device failure, or logits that are not finite.
    pub async fn feed(&mut self, engine: &mut Engine, tokens: &[u32]) -> Result<Vec<f32>> {
        if tokens.is_empty() {
            return Err(Error::Argument("there are no tokens to run: the prompt is empty".into()));
        }
        self.check(engine, tokens)?;
        let mut rest = tokens;
        loop {
            let chunk = rest.len().min(CHUNKS[CHUNKS.len() - 1]);
            let (now, later) = rest.split_at(chunk);
            let last = later.is_empty();
            self.run(engine, now, if last { chunk - 1..chunk } else { 0..0 })?;
            if last {
                return self.read_logits(engine, 1).await;
            }
            rest = later;
        }
    }

    /// Appends `tokens` and returns the logits after each of them, [T, V] row-major.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub async fn feed_all(&mut self, engine: &mut Engine, tokens: &[u32]) -> Result<Vec<f32>> {
        self.check(engine, tokens)?;
        let mut all = Vec::with_capacity(tokens.len() * engine.config.vocabulary);
        for chunk in tokens.chunks(LOGIT_ROWS) {
            self.run(engine, chunk, 0..chunk.len())?;
            all.extend(self.read_logits(engine, chunk.len()).await?);
        }
        Ok(all)
    }

    /// Continues the sequence `tokens`, of which the first [`Self::past`] are in the cache already, token by token until `max_tokens`, an end token, a full context, or `on_token` says stop.
    /// Returns the new tokens, without the end token.
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
        // The last token always runs, for its logits.
        self.truncate(tokens.len().saturating_sub(1));
        let mut seen = tokens.to_vec();
        let mut logits = self.feed(engine, &tokens[self.past..]).await?;
        for left in (0..options.max_tokens).rev() {
            let token = sampler.sample(&logits, &seen)?;
            if is_end(token) {
                break;
            }
            seen.push(token);
            if on_token(token).is_break() || left == 0 || self.past == self.context {
                break;
            }
            logits = self.feed(engine, &[token]).await?;
        }
        Ok(seen.split_off(tokens.len()))
    }

    fn check(&self, engine: &Engine, tokens: &[u32]) -> Result<()> {
        engine.owns(&self.resources)?;
        let vocabulary = engine.config.vocabulary;
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= vocabulary) {
            return Err(Error::Argument(format!("token {token} is outside the vocabulary of {vocabulary}")));
        }
        let wanted = (self.past + tokens.len()) as u64;
        if wanted > self.context as u64 {
            return Err(Error::Limit {
                what: "tokens in the context".into(),
                value: wanted,
                limit: self.context as u64,
            });
        }
        Ok(())
    }

    /// Runs one chunk; logits of `rows` of it land in the logits buffer.
    fn run(&mut self, engine: &mut Engine, tokens: &[u32], rows: std::ops::Range<usize>) -> Result<()> {
        let size = CHUNKS.into_iter().find(|&c| c >= tokens.len()).unwrap_or(tokens.len());
        let logit_rows = if rows.len() <= 1 { 1 } else { LOGIT_ROWS };
        let program = self.program(engine, size, logit_rows)?;
        let mut padded = tokens.to_vec();
        padded.resize(size, 0);
        let positions: Vec<u32> = (0..size).map(|i| (self.past + i) as u32).collect();
        let mut list: Vec<u32> = rows.map(|r| r as u32).collect();
        list.resize(logit_rows, loam_shaders::step::NONE);
        let backend = &mut engine.backend;
        backend.write(self.inputs.tokens, 0, &padded)?;
        backend.write(self.inputs.positions, 0, &positions)?;
        backend.write(self.inputs.rows, 0, &list)?;
        let step = Step { past: self.past as u32, ..Step::default() };
        engine.run(program, &step)?;
        self.past += tokens.len();
        Ok(())
    }

    fn program(&mut self, engine: &mut Engine, tokens: usize, logit_rows: usize) -> Result<ProgramId> {
        if let Some(&program) = self.programs.get(&(tokens, logit_rows)) {
            return Ok(program);
        }
        let recorded = if (tokens, logit_rows) == (1, 1) { self.decode.take() } else { None };
        let plan = recorded.unwrap_or_else(|| self.plan(engine, tokens, logit_rows));
        let program = engine.compile(&mut self.resources, &plan)?;
        self.programs.insert((tokens, logit_rows), program);
        Ok(program)
    }

    /// The plan of a run of `tokens` tokens with `logit_rows` rows of logits.
    pub fn plan(&self, engine: &Engine, tokens: usize, logit_rows: usize) -> Plan {
        let Engine { config, weights, .. } = engine;
        let (inputs, keys) = (self.inputs.of(tokens), Keys::Cached(&self.cache));
        let pass = Pass { config, weights, sites: self.adapters.sites(), watches: None, inputs, keys };
        let mut r = engine.recorder(Checkpointing::None);
        let hidden = forward(&mut r, pass);
        let out = Tensor::stored(self.logits, 0, logit_rows, config.vocabulary);
        logits(&mut r, &pass, hidden, list(self.inputs.rows, logit_rows), out);
        r.finish(if tokens == 1 { "decode".to_owned() } else { format!("prefill {tokens}") })
    }

    async fn read_logits(&mut self, engine: &mut Engine, rows: usize) -> Result<Vec<f32>> {
        let words = (rows * engine.config.vocabulary) as u64;
        let values: Vec<f32> = bytemuck::cast_vec(engine.backend.read(self.logits, 0, words).await?);
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Error::NonFinite("a logit".into()));
        }
        Ok(values)
    }
}

/// Keys and values of all layers, in f32.
fn cache_bytes(config: &ModelConfig, tokens: usize) -> u64 {
    (tokens as u64).saturating_mul((config.layers * config.kv_width() * 8) as u64)
}

fn cache(engine: &mut Engine, resources: &mut Resources, capacity: usize) -> Result<Cache> {
    let width = engine.config.kv_width();
    let mut layers = Vec::new();
    for l in 0..engine.config.layers {
        let mut buffer = |name: &str| -> Result<Tensor> {
            let (name, words) = (format!("cache.{l}.{name}"), (capacity * width) as u64);
            let id = engine.add(resources, &name, Pool::Cache, words, Content::Zeros)?;
            Ok(Tensor::stored(id, 0, capacity, width))
        };
        layers.push((buffer("k")?, buffer("v")?));
    }
    Ok(Cache { layers })
}
