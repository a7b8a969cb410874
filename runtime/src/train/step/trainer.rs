//! One optimizer step: micro-batches forward and backward, then clipping and the optimizer's update, all on the device.

mod measure;
mod state;

use loam_shaders::Step;

use super::optimizer::{self, Arenas};
use crate::adapter::{self, AdapterFile, Arena, Rate, Sites, Trained};
use crate::backend::ProgramId;
use crate::data::Batch;
use crate::engine::{Engine, Resources};
use crate::error::{Error, Result};
use crate::loss::{LossBuffers, Reverse};
use crate::plan::{Content, Phase, Plan, Pool, Recorder, StorageId, Tensor};
use crate::train::TrainOptions;
use crate::train::objective::{self, Metrics, Scores};

/// What one optimizer step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The objective's loss and metrics.
    pub metrics: Metrics,
    /// Learning rate.
    pub lr: f32,
    /// Global gradient norm before clipping. Not finite: the step was skipped, nothing changed.
    pub grad_norm: f32,
    /// Tokens with a loss.
    pub trained_tokens: usize,
    /// Tokens in the batches, without padding.
    pub tokens: usize,
}

/// A micro-batch of a step.
#[derive(Debug, Clone)]
pub struct MicroBatch<'b> {
    /// What is in it.
    pub batch: &'b Batch,
    /// Its number in the step, from 0.
    pub number: usize,
    /// Units of all micro-batches of the step, see [`Objective::units`](crate::train::Objective::units).
    pub units: usize,
    /// What [`Pass`] of [`Trainer::begin_reference`] gave for the batch, for objectives that compare with it.
    pub reference: Vec<f64>,
}

/// A batch that is being run, submission by submission.
pub struct Pass<'b> {
    batch: &'b Batch,
    shape: LossBuffers,
    program: ProgramId,
    step: Step,
    /// Where its next part begins.
    next: Option<usize>,
    purpose: Purpose,
    /// One over the units of the step.
    share: f64,
    /// Log-probabilities of the sequences without adapter.
    reference: Vec<f64>,
}

/// What a batch is run for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Gradients and the sums of loss and metrics.
    Learn,
    /// These sums, as held-out data is measured.
    Measure,
    /// The log-probabilities of its sequences.
    Reference,
}

/// The trained adapter's buffers.
struct Buffers {
    parameters: StorageId,
    gradients: StorageId,
    norm: StorageId,
    /// What the optimizer keeps.
    optimizer: Vec<Tensor>,
}

/// An adapter in training on an engine.
pub struct Trainer {
    resources: Resources,
    /// All but the values.
    adapter: AdapterFile,
    arena: Arena,
    sites: Sites,
    buffers: Buffers,
    /// Magnitudes of the noise on the embeddings, if there is any.
    noise: Option<StorageId>,
    loss: LossBuffers,
    options: TrainOptions,
    /// The programs of micro-batches, one per length of their rows, the longest first.
    train: Vec<(LossBuffers, ProgramId)>,
    update: ProgramId,
    /// The programs without gradients, with and without adapter, by tokens of a batch.
    evaluate: Vec<(usize, ProgramId)>,
    reference: Vec<(usize, ProgramId)>,
    step: u64,
}

impl Trainer {
    /// Puts `adapter` on `engine` and compiles the plans for `options.rows()` rows of `options.context` tokens.
    /// Without an adapter a new one is started with `options.adapter`.
    ///
    /// # Errors
    /// Options that make no sense, an adapter without a target, or a device without enough memory.
    pub async fn new(engine: &mut Engine, adapter: Option<AdapterFile>, options: TrainOptions) -> Result<Self> {
        options.check()?;
        let mut resources = engine.resources();
        let adapter = match adapter {
            Some(adapter) => adapter,
            None => {
                let targets: Vec<_> = engine.weights.targets().collect();
                options.adapter.start(engine.config.architecture, &targets)?
            }
        };
        options.check_for(&adapter)?;
        let arena = Arena::new(&adapter);
        let buffers = Buffers::new(engine, &mut resources, &arena, &options)?;
        let mut sites = Sites::default();
        let trained = Trained { gradients: buffers.gradients, dropout: options.dropout };
        arena.attach(&mut sites, buffers.parameters, Some(trained), 1.0);
        let noise = noise(engine, &mut resources, &options)?;
        let loss = LossBuffers::new(engine, &mut resources, options.rows(), options.context, options.loss_chunk)?;
        let loss = loss.with_noise(noise);
        let shapes: Vec<LossBuffers> =
            options.batches().contexts().into_iter().map(|context| loss.with_context(context)).collect();
        let reverse = Some(reverse(&options));
        let plans: Vec<Plan> = shapes.iter().map(|shape| shape.plan(engine, &sites, reverse)).collect();
        let update = update_plan(engine, &buffers, &arena, &options);
        let all: Vec<&Plan> = plans.iter().chain([&update]).collect();
        engine.allocate(&all).await?;
        engine.backend.write(buffers.parameters, 0, &arena.pack(&adapter))?;
        let mut train = Vec::with_capacity(shapes.len());
        for (shape, plan) in shapes.into_iter().zip(&plans) {
            train.push((shape, engine.compile(&mut resources, plan).await?));
        }
        let update = engine.compile(&mut resources, &update).await?;
        Ok(Self {
            resources,
            // The device has the values now.
            adapter: AdapterFile { parameters: Vec::new(), ..adapter },
            arena,
            sites,
            buffers,
            noise,
            loss,
            options,
            train,
            update,
            evaluate: Vec::new(),
            reference: Vec::new(),
            step: 0,
        })
    }

    /// The options of the run.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Number of trained values.
    pub fn parameters(&self) -> usize {
        self.arena.parameters()
    }

    /// The training plan, for print-outs and checks.
    pub fn plan(&self, engine: &Engine) -> Plan {
        self.loss.plan(engine, &self.sites, Some(reverse(&self.options)))
    }

    /// Runs micro-batches forward and backward and adds up their gradients, as one step. Returns the objective's loss
    /// and metrics.
    ///
    /// # Errors
    /// Batches of another shape than the options say or without a trained token, or a device failure.
    pub async fn accumulate(&mut self, engine: &mut Engine, batches: &[Batch]) -> Result<Metrics> {
        let objective = self.options.objective.objective;
        let units = objective.units(batches);
        if batches.iter().all(|batch| batch.trained == 0) {
            return Err(Error::Argument("a step without a trained token: nothing to learn from".into()));
        }
        let mut sums = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            let reference = self.reference_of(engine, batch).await?;
            let pass = self.begin_micro_batch(engine, MicroBatch { batch, number, units, reference })?;
            objective::add(&mut sums, &self.complete(engine, pass).await?);
        }
        Ok(objective.means(&sums, units))
    }

    /// Begins a micro-batch: its gradients are added to those of the ones before.
    ///
    /// # Errors
    /// As [`Self::accumulate`].
    pub fn begin_micro_batch<'b>(&mut self, engine: &mut Engine, micro: MicroBatch<'b>) -> Result<Pass<'b>> {
        let MicroBatch { batch, number, units, reference } = micro;
        let measured = self.options.objective.objective.weights.is_some();
        let step = Step {
            seed: (self.options.seed ^ self.options.seed >> 32) as u32,
            step: self.step as u32 + 1,
            rows: (number * self.options.rows()) as u32,
            phase: if measured { Phase::Measure as u32 } else { 0 },
            ..Step::default()
        };
        self.make_noise(engine, batch)?;
        // Of an unknown shape: the longest one says what is wrong.
        let fits = self.train.iter().find(|(shape, _)| shape.tokens() == batch.tokens.len());
        let (shape, program) = *fits.unwrap_or(&self.train[0]);
        let share = 1.0 / units as f64;
        if !measured {
            shape.weigh(engine, &vec![1.0 / units as f32; batch.trained])?;
        }
        let pass = self.begin(engine, batch, (shape, program), step)?;
        Ok(Pass { purpose: Purpose::Learn, share, reference, ..pass })
    }

    /// Puts a batch where the plan of its shape reads it.
    fn begin<'b>(
        &self,
        engine: &mut Engine,
        batch: &'b Batch,
        (shape, program): (LossBuffers, ProgramId),
        step: Step,
    ) -> Result<Pass<'b>> {
        self.load(engine, batch, shape)?;
        Ok(pass(batch, (shape, program), step))
    }

    fn load(&self, engine: &mut Engine, batch: &Batch, shape: LossBuffers) -> Result<()> {
        engine.owns(&self.resources)?;
        shape.load(engine, batch)
    }

    /// Submits the next part of a batch. Returns whether it was the last one for now: see [`Self::turn`]. Nothing else
    /// may run between two parts.
    ///
    /// # Errors
    /// A device failure.
    pub fn submit(&self, engine: &mut Engine, pass: &mut Pass<'_>) -> Result<bool> {
        if let Some(part) = pass.next {
            pass.next = engine.backend.run(pass.program, &pass.step, part)?;
        }
        Ok(pass.next.is_none())
    }

    /// When all parts are submitted: where the weights depend on the log-probabilities, reads the ones, writes the
    /// others and goes to the second phase. Returns whether there are more parts to submit.
    ///
    /// # Errors
    /// A device failure.
    pub async fn turn(&self, engine: &mut Engine, pass: &mut Pass<'_>) -> Result<bool> {
        let objective = &self.options.objective;
        let Some(weights) = objective.objective.weights.filter(|_| pass.step.phase == Phase::Measure as u32) else {
            return Ok(false);
        };
        let log_probabilities = pass.shape.log_probabilities(engine, pass.batch).await?;
        pass.shape.weigh(engine, &weights(&pass.scores(&log_probabilities), objective))?;
        (pass.step.phase, pass.next) = (Phase::Learn as u32, Some(0));
        Ok(true)
    }

    /// What a batch was run for: the sums of loss and metrics over its units, or the log-probabilities of its
    /// sequences.
    ///
    /// # Errors
    /// A device failure.
    pub async fn end(&self, engine: &mut Engine, pass: Pass<'_>) -> Result<Vec<f64>> {
        let log_probabilities = pass.shape.log_probabilities(engine, pass.batch).await?;
        let (scores, options) = (pass.scores(&log_probabilities), &self.options.objective);
        Ok(match pass.purpose {
            Purpose::Learn => (options.objective.sums)(&scores, options),
            Purpose::Measure => (options.objective.held_out)(&scores, options),
            Purpose::Reference => (0..scores.sequences.len()).map(|index| scores.sequence(index)).collect(),
        })
    }

    /// Submits all parts of a batch, and ends it.
    async fn complete(&self, engine: &mut Engine, mut pass: Pass<'_>) -> Result<Vec<f64>> {
        loop {
            while !self.submit(engine, &mut pass)? {}
            if !self.turn(engine, &mut pass).await? {
                return self.end(engine, pass).await;
            }
        }
    }

    /// The log-probabilities of the sequences of `batch` without adapter, where the objective compares with them.
    async fn reference_of(&mut self, engine: &mut Engine, batch: &Batch) -> Result<Vec<f64>> {
        if !self.options.objective.objective.reference {
            return Ok(Vec::new());
        }
        let pass = self.begin_reference(engine, batch).await?;
        self.complete(engine, pass).await
    }

    /// Sets the magnitudes of the noise on the embeddings of `batch`.
    fn make_noise(&mut self, engine: &mut Engine, batch: &Batch) -> Result<()> {
        let Some(id) = self.noise else { return Ok(()) };
        let config = &engine.config;
        let (alpha, width) = (f64::from(self.options.neftune_noise_alpha), config.embedding as f64);
        let magnitude = |length: u32| alpha / (f64::from(length) * width).sqrt() * f64::from(config.embedding_scale);
        let words: Vec<u32> = batch.lengths().into_iter().map(|length| (magnitude(length) as f32).to_bits()).collect();
        engine.backend.write(id, 0, &words)
    }

    /// Clips the summed gradients, updates the adapter and zeroes the gradients. Returns the norm before clipping; if
    /// it is not finite, the adapter is unchanged.
    ///
    /// # Errors
    /// A device failure.
    pub async fn update(&mut self, engine: &mut Engine, lr: f32) -> Result<f32> {
        engine.owns(&self.resources)?;
        self.step += 1;
        let (correction1, correction2) = self.options.optimizer.corrections(self.step);
        let step =
            Step { step: self.step as u32, lr, correction1, correction2, clip: self.options.clip, ..Step::default() };
        engine.run(self.update, &step)?;
        let norm = engine.backend.read(self.buffers.norm, 0, 1).await?;
        let norm = f32::from_bits(norm[0]);
        if !norm.is_finite() {
            // A skipped step does not count for the bias correction: the moments have not moved.
            self.step -= 1;
        }
        Ok(norm)
    }

    /// One optimizer step over `batches`.
    ///
    /// # Errors
    /// As [`Self::accumulate`] and [`Self::update`].
    pub async fn step(&mut self, engine: &mut Engine, batches: &[Batch], lr: f32) -> Result<StepReport> {
        let metrics = self.accumulate(engine, batches).await?;
        let grad_norm = self.update(engine, lr).await?;
        let trained_tokens = batches.iter().map(|b| b.trained).sum();
        let tokens = batches.iter().map(|b| b.tokens_used).sum();
        Ok(StepReport { metrics, lr, grad_norm, trained_tokens, tokens })
    }

    /// Rows of logits that exist at once.
    pub fn loss_chunk(&self) -> usize {
        self.loss.chunk()
    }

    /// The objective's loss and metrics on `batches` as held-out data, without touching the adapter.
    ///
    /// # Errors
    /// As [`Self::accumulate`].
    pub async fn evaluate(&mut self, engine: &mut Engine, batches: &[Batch]) -> Result<Metrics> {
        let objective = self.options.objective.objective;
        let units = objective.units(batches);
        if units == 0 {
            return Err(Error::Argument("the evaluation data has no token with a loss".into()));
        }
        let mut sums = Vec::new();
        for batch in batches.iter().filter(|batch| batch.trained > 0) {
            let reference = self.reference_of(engine, batch).await?;
            let pass = self.begin_evaluation(engine, batch, reference).await?;
            objective::add(&mut sums, &self.complete(engine, pass).await?);
        }
        Ok(objective.means(&sums, units))
    }
}

impl Buffers {
    fn new(engine: &mut Engine, resources: &mut Resources, arena: &Arena, options: &TrainOptions) -> Result<Self> {
        let words = arena.words();
        Ok(Self {
            parameters: engine.add(resources, "adapter", Pool::Adapter, words, Content::Zeros)?,
            gradients: engine.add(resources, "gradients", Pool::Adapter, words, Content::Zeros)?,
            norm: engine.add(resources, "gradient_norm", Pool::Inputs, 1, Content::Zeros)?,
            optimizer: options.optimizer.declare(engine, resources, words)?,
        })
    }
}

/// A batch that is loaded, before its first part.
fn pass(batch: &Batch, (shape, program): (LossBuffers, ProgramId), step: Step) -> Pass<'_> {
    let step = Step { trained: batch.trained as u32, ..step };
    let (purpose, share, reference) = (Purpose::Reference, 1.0, Vec::new());
    Pass { batch, shape, program, step, next: Some(0), purpose, share, reference }
}

impl Pass<'_> {
    fn scores<'a>(&'a self, log_probabilities: &'a [f32]) -> Scores<'a> {
        Scores { log_probabilities, sequences: &self.batch.sequences, reference: &self.reference, share: self.share }
    }
}

fn reverse(options: &TrainOptions) -> Reverse {
    let measured = options.objective.objective.weights.is_some();
    Reverse { checkpointing: options.checkpointing.unwrap_or_default(), measured }
}

/// Declares the magnitudes of the noise on the embeddings, if there is to be any.
fn noise(engine: &mut Engine, resources: &mut Resources, options: &TrainOptions) -> Result<Option<StorageId>> {
    if options.neftune_noise_alpha == 0.0 {
        return Ok(None);
    }
    let tokens = options.rows().saturating_mul(options.context);
    engine.add(resources, "embedding_noise", Pool::Inputs, tokens as u64, Content::Zeros).map(Some)
}

/// The parameters as the optimizer walks them.
fn groups(arena: &Arena, options: &TrainOptions) -> Vec<optimizer::Group> {
    let group = |group: &adapter::Group| {
        let rate = match group.rate {
            Rate::Plain => 1.0,
            Rate::LoraPlus => options.loraplus_lr_ratio,
        };
        optimizer::Group { range: group.range.start as usize..group.range.end as usize, rate, decays: group.decays }
    };
    optimizer::Group::merged(arena.groups().iter().map(group))
}

fn update_plan(engine: &Engine, buffers: &Buffers, arena: &Arena, options: &TrainOptions) -> Plan {
    let limit = engine.backend.info().limits.max_binding_bytes / 4;
    let mut r = Recorder::new();
    let words = arena.words() as usize;
    let of = |id| Tensor::stored(id, 0, 1, words);
    let arenas = Arenas {
        parameters: of(buffers.parameters),
        gradients: of(buffers.gradients),
        norm: Tensor::stored(buffers.norm, 0, 1, 1),
        state: &buffers.optimizer,
        groups: &groups(arena, options),
    };
    optimizer::update(&mut r, &arenas, &options.optimizer, limit);
    r.finish("update")
}
