//! Runs of whole batches up to the log-probability of each label, and back to the gradients: what training, evaluation
//! and importance matrices have in common.

use loam_shaders::Step;
use loam_shaders::step::NONE;

use crate::adapter::Sites;
use crate::backend::ProgramId;
use crate::data::Batch;
use crate::engine::{Engine, InputBuffers, Resources, list};
use crate::error::{Error, Result};
use crate::model::{Inputs, Keys, ModelConfig, Pass, forward, loss_logits};
use crate::ops::cross_entropy::{Head, LossInputs, loss};
use crate::ops::noise::Noise;
use crate::plan::{Checkpointing, Content, Phase, Plan, Pool, StorageId};

/// Most rows of logits that exist at once, unless an option says otherwise.
const LOSS_CHUNK: usize = 64;

/// Most logits that exist at once then (32 MiB); at least [`FEWEST_ROWS`] rows whatever the vocabulary.
const LOGITS: usize = 8 << 20;

/// With fewer rows the time goes into decoding the head, which is done once per chunk.
pub const FEWEST_ROWS: usize = 8;

/// Rows of logits that exist at once in runs of `tokens` tokens: at most a quarter of them.
pub fn loss_chunk(vocabulary: usize, tokens: usize) -> usize {
    let rows = LOGITS / vocabulary.max(1) / FEWEST_ROWS * FEWEST_ROWS;
    rows.clamp(FEWEST_ROWS, LOSS_CHUNK).min(tokens.div_ceil(4))
}

/// How a plan continues from the log-probabilities to the gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reverse {
    /// What it finds of the forward pass.
    pub checkpointing: Checkpointing,
    /// The weights depend on the log-probabilities. Then the plan has two phases: the host reads the ones after the
    /// first and writes the others before the second, which multiplies with the head once more.
    pub measured: bool,
}

/// What runs of batches of `batch` rows with `context` tokens read and write.
#[derive(Debug, Clone, Copy)]
pub struct LossBuffers {
    inputs: InputBuffers,
    starts: StorageId,
    labels: StorageId,
    weights: StorageId,
    log_probabilities: StorageId,
    /// Magnitudes of the noise on the embeddings in training, `f32[tokens]`.
    noise: Option<StorageId>,
    batch: usize,
    context: usize,
    chunk: usize,
}

impl LossBuffers {
    /// Declares the buffers. `chunk` rows of logits exist at once; `None`: [`loss_chunk`].
    ///
    /// # Errors
    /// Over a limit of host or device.
    pub fn new(
        engine: &mut Engine,
        resources: &mut Resources,
        batch: usize,
        context: usize,
        chunk: Option<usize>,
    ) -> Result<Self> {
        let tokens = places(&engine.config, batch, context)?;
        let inputs = InputBuffers::new(engine, resources, tokens, context)?;
        let mut list = |name| engine.add(resources, name, Pool::Inputs, tokens as u64, Content::Zeros);
        let starts = list("starts")?;
        let (labels, weights, log_probabilities) = (list("labels")?, list("weights")?, list("log_probabilities")?);
        let chunk = chunk.unwrap_or_else(|| loss_chunk(engine.config.vocabulary, tokens)).clamp(1, tokens.max(1));
        Ok(Self { inputs, starts, labels, weights, log_probabilities, noise: None, batch, context, chunk })
    }

    /// The same buffers for rows of `context` tokens, at most as many as they were made for.
    #[must_use]
    pub fn with_context(self, context: usize) -> Self {
        let chunk = self.chunk.min(self.batch * context);
        Self { context, chunk, ..self }
    }

    /// The same with noise on the embeddings in training, of the magnitudes in `noise` `f32[tokens]`.
    #[must_use]
    pub fn with_noise(self, noise: Option<StorageId>) -> Self {
        Self { noise, ..self }
    }

    /// Tokens of a batch.
    pub fn tokens(&self) -> usize {
        self.batch * self.context
    }

    /// Forward, log-probabilities and, with `reverse`, the gradients; without it neither dropout nor noise. No buffer
    /// of it has tokens x tokens or tokens x vocabulary values: attention works in tiles, the loss in chunks of rows.
    pub fn plan(&self, engine: &Engine, sites: &Sites, reverse: Option<Reverse>) -> Plan {
        let tokens = self.batch * self.context;
        let sites = &if reverse.is_some() { sites.in_rows(self.context) } else { sites.evaluating() };
        let mut r = engine.recorder(reverse.unwrap_or_default().checkpointing);
        let measured = reverse.is_some_and(|reverse| reverse.measured);
        if measured {
            r.begin(Phase::Measure);
        }
        let on = |id| Noise { magnitudes: list(id, tokens), context: self.context as u32 };
        let noise = self.noise.filter(|_| reverse.is_some()).map(on);
        let inputs = Inputs { noise, ..self.inputs.first(tokens) };
        let Engine { config, weights, .. } = engine;
        let keys = Keys::Own { batch: self.batch, starts: list(self.starts, tokens) };
        let pass = Pass { config, weights, sites, watches: None, inputs, keys };
        let hidden = forward(&mut r, pass);
        let io = LossInputs {
            rows: list(self.inputs.rows, tokens),
            labels: list(self.labels, tokens),
            weights: list(self.weights, tokens),
            log_probabilities: list(self.log_probabilities, tokens),
            chunk: self.chunk,
            softcap: engine.config.final_softcap,
        };
        let head: Head<'_, '_> = &|r, x, first| loss_logits(r, &pass, x, first);
        if measured {
            loss(&mut r, hidden, head, io, false);
            r.begin(Phase::Learn);
        }
        if let Some(dhidden) = loss(&mut r, hidden, head, io, reverse.is_some()) {
            r.reverse(hidden, dhidden);
        }
        let kind = if reverse.is_some() { "train" } else { "evaluate" };
        r.finish(format!("{kind} {}x{}", self.batch, self.context))
    }

    /// Rows of logits that exist at once.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Runs one batch and returns the sum of its losses in nats.
    ///
    /// # Errors
    /// A batch of another shape, or a device failure.
    pub async fn run(&self, engine: &mut Engine, program: ProgramId, batch: &Batch, step: &Step) -> Result<f64> {
        self.load(engine, batch)?;
        engine.run(program, &Step { trained: batch.trained as u32, ..*step })?;
        self.sum(engine, batch).await
    }

    /// Puts a batch where the plan reads it.
    ///
    /// # Errors
    /// A batch of another shape, or a device failure.
    pub fn load(&self, engine: &mut Engine, batch: &Batch) -> Result<()> {
        let tokens = self.batch * self.context;
        engine.config.check_tokens(batch.tokens.iter().chain(&batch.labels))?;
        for (id, list) in [
            (self.inputs.tokens, &batch.tokens),
            (self.inputs.positions, &batch.positions),
            (self.starts, &batch.starts),
        ] {
            if list.len() != tokens {
                let message = format!("a batch has {} tokens, the plan was made for {tokens}", list.len());
                return Err(Error::Argument(message));
            }
            engine.backend.write(id, 0, list)?;
        }
        for (id, list) in [(self.inputs.rows, &batch.rows), (self.labels, &batch.labels)] {
            let mut list = list.clone();
            list.resize(tokens, NONE);
            engine.backend.write(id, 0, &list)?;
        }
        Ok(())
    }

    /// Puts the weights of the batch's labels where the plan reads them.
    ///
    /// # Errors
    /// A device failure.
    pub fn weigh(&self, engine: &mut Engine, weights: &[f32]) -> Result<()> {
        engine.backend.write(self.weights, 0, bytemuck::cast_slice(weights))
    }

    /// The log-probability of each label of the batch that was run, in nats.
    ///
    /// # Errors
    /// A device failure.
    pub async fn log_probabilities(&self, engine: &mut Engine, batch: &Batch) -> Result<Vec<f32>> {
        let words = engine.backend.read(self.log_probabilities, 0, batch.trained as u64).await?;
        Ok(bytemuck::cast_vec(words))
    }

    /// The sum of the losses of the batch that was run, in nats.
    ///
    /// # Errors
    /// A device failure.
    pub async fn sum(&self, engine: &mut Engine, batch: &Batch) -> Result<f64> {
        // Summed in the order of the rows: the same bits every time.
        Ok(self.log_probabilities(engine, batch).await?.iter().map(|&value| -f64::from(value)).sum())
    }

    /// Mean loss in nats over all trained tokens of `batches` and their number; `program` is [`Self::plan`] without
    /// reverse pass.
    ///
    /// # Errors
    /// As [`Self::run`], and if no token is trained.
    pub async fn mean(&self, engine: &mut Engine, program: ProgramId, batches: &[Batch]) -> Result<(f64, usize)> {
        let (mut sum, mut trained) = (0.0, 0);
        for batch in batches.iter().filter(|b| b.trained > 0) {
            sum += self.run(engine, program, batch, &Step::default()).await?;
            trained += batch.trained;
            if !sum.is_finite() {
                return Err(Error::NonFinite("the loss on the evaluation data".into()));
            }
        }
        if trained == 0 {
            return Err(Error::Argument("the evaluation data has no token with a loss".into()));
        }
        Ok((sum / trained as f64, trained))
    }
}

/// Most tokens of one batch, or pairs of a token and an expert: tiles of 64 of them then fit a grid's 65,535 workgroups
/// with room to spare.
const MAX_TOKENS: usize = 1 << 21;

/// Tokens of a batch, if a plan can have as many.
fn places(config: &ModelConfig, batch: usize, context: usize) -> Result<usize> {
    let limit = MAX_TOKENS / config.experts.map_or(1, |experts| experts.used);
    match batch.checked_mul(context) {
        Some(tokens) if tokens <= limit => Ok(tokens),
        _ => {
            let (what, value) =
                (format!("{batch} rows of {context} tokens"), (batch as u64).saturating_mul(context as u64));
            Err(Error::Limit { what, value, limit: limit as u64 })
        }
    }
}
