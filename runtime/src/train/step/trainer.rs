//! One optimizer step: micro-batches forward and backward, then clipping and the optimizer's update, all on the device.

use loam_shaders::Step;

use super::optimizer::{self, Arenas};
use crate::adapter::{self, AdapterFile, Arena, Rate, Sites, Trained};
use crate::backend::ProgramId;
use crate::data::Batch;
use crate::engine::{Engine, Resources};
use crate::error::{Error, Result};
use crate::loss::{LossBuffers, Reverse};
use crate::plan::{Content, Plan, Pool, Recorder, StorageId, Tensor};
use crate::train::TrainOptions;

/// What one optimizer step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss over the trained tokens of the step, in nats.
    pub loss: f64,
    /// Learning rate.
    pub lr: f32,
    /// Global gradient norm before clipping. Not finite: the step was skipped, nothing changed.
    pub grad_norm: f32,
    /// Tokens with a loss.
    pub trained_tokens: usize,
    /// Tokens in the batches, without padding.
    pub tokens: usize,
}

/// A batch that is being run, submission by submission.
pub struct Pass {
    shape: LossBuffers,
    program: ProgramId,
    step: Step,
    /// Where its next part begins.
    next: Option<usize>,
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
    /// The programs without gradients, by tokens of a batch.
    evaluate: Vec<(usize, ProgramId)>,
    step: u64,
}

impl Trainer {
    /// Puts `adapter` on `engine` and compiles the plans for `options.batch` rows of `options.context` tokens. Without an
    /// adapter a new one is started with `options.adapter`.
    ///
    /// # Errors
    /// Options that make no sense, an adapter without a target, or a device without enough memory.
    pub fn new(engine: &mut Engine, adapter: Option<AdapterFile>, options: TrainOptions) -> Result<Self> {
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
        let loss = LossBuffers::new(engine, &mut resources, options.batch, options.context, options.loss_chunk)?;
        let loss = loss.with_noise(noise);
        let shapes: Vec<LossBuffers> =
            options.batches().contexts().into_iter().map(|context| loss.with_context(context)).collect();
        let reverse = Some(reverse(&options));
        let plans: Vec<Plan> = shapes.iter().map(|shape| shape.plan(engine, &sites, reverse)).collect();
        let update = update_plan(engine, &buffers, &arena, &options);
        let all: Vec<&Plan> = plans.iter().chain([&update]).collect();
        engine.allocate(&all)?;
        engine.backend.write(buffers.parameters, 0, &arena.pack(&adapter))?;
        let compile = |plan| engine.compile(&mut resources, plan);
        let programs = plans.iter().map(compile).collect::<Result<Vec<_>>>()?;
        let train = shapes.into_iter().zip(programs).collect();
        let update = engine.compile(&mut resources, &update)?;
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

    /// Runs micro-batches forward and backward and adds up their gradients, each trained token of all of them with
    /// the same weight. Returns the mean loss in nats.
    ///
    /// # Errors
    /// Batches of another shape than the options say or without a trained token, or a device failure.
    pub async fn accumulate(&mut self, engine: &mut Engine, batches: &[Batch]) -> Result<f64> {
        let trained: usize = batches.iter().map(|b| b.trained).sum();
        if trained == 0 {
            return Err(Error::Argument("a step without a trained token: nothing to learn from".into()));
        }
        let mut sum = 0.0;
        for (micro, batch) in batches.iter().enumerate() {
            let pass = self.begin_micro_batch(engine, batch, micro, trained)?;
            sum += self.complete(engine, pass, batch).await?;
        }
        Ok(sum / trained as f64)
    }

    /// Begins micro-batch number `micro` of a step with `trained` trained tokens in all: its gradients are added to those
    /// of the ones before.
    ///
    /// # Errors
    /// As [`Self::accumulate`].
    pub fn begin_micro_batch(
        &mut self,
        engine: &mut Engine,
        batch: &Batch,
        micro: usize,
        trained: usize,
    ) -> Result<Pass> {
        let step = Step {
            seed: (self.options.seed ^ self.options.seed >> 32) as u32,
            step: self.step as u32 + 1,
            rows: (micro * self.options.batch) as u32,
            ..Step::default()
        };
        self.make_noise(engine, batch)?;
        // Of an unknown shape: the longest one says what is wrong.
        let fits = self.train.iter().find(|(shape, _)| shape.tokens() == batch.tokens.len());
        let (shape, program) = *fits.unwrap_or(&self.train[0]);
        shape.weigh(engine, &vec![1.0 / trained as f32; batch.trained])?;
        self.begin(engine, shape, program, batch, step)
    }

    /// Begins to measure the losses of `batch`, without touching the adapter.
    ///
    /// # Errors
    /// As [`Self::accumulate`].
    pub fn begin_evaluation(&mut self, engine: &mut Engine, batch: &Batch) -> Result<Pass> {
        let fits = self.train.iter().find(|(shape, _)| shape.tokens() == batch.tokens.len());
        let shape = fits.map_or(self.loss, |(shape, _)| *shape);
        let program = self.evaluation_of(engine, shape)?;
        self.begin(engine, shape, program, batch, Step::default())
    }

    /// Puts a batch where the plan of its shape reads it.
    fn begin(
        &self,
        engine: &mut Engine,
        shape: LossBuffers,
        program: ProgramId,
        batch: &Batch,
        step: Step,
    ) -> Result<Pass> {
        engine.owns(&self.resources)?;
        shape.load(engine, batch)?;
        Ok(Pass { shape, program, step: Step { trained: batch.trained as u32, ..step }, next: Some(0) })
    }

    /// Submits the next part of a batch. Returns whether it was the last one. Nothing else may run between two parts.
    ///
    /// # Errors
    /// A device failure.
    pub fn submit(&self, engine: &mut Engine, pass: &mut Pass) -> Result<bool> {
        if let Some(part) = pass.next {
            pass.next = engine.backend.run(pass.program, &pass.step, part)?;
        }
        Ok(pass.next.is_none())
    }

    /// The sum of the losses of `batch` in nats, when all of its parts are submitted.
    ///
    /// # Errors
    /// A device failure.
    pub async fn end(&self, engine: &mut Engine, pass: Pass, batch: &Batch) -> Result<f64> {
        pass.shape.sum(engine, batch).await
    }

    /// Submits all parts of a batch; the sum of its losses in nats.
    async fn complete(&self, engine: &mut Engine, mut pass: Pass, batch: &Batch) -> Result<f64> {
        while !self.submit(engine, &mut pass)? {}
        self.end(engine, pass, batch).await
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
        let loss = self.accumulate(engine, batches).await?;
        let grad_norm = self.update(engine, lr).await?;
        let trained_tokens = batches.iter().map(|b| b.trained).sum();
        let tokens = batches.iter().map(|b| b.tokens_used).sum();
        Ok(StepReport { loss, lr, grad_norm, trained_tokens, tokens })
    }

    /// Rows of logits that exist at once.
    pub fn loss_chunk(&self) -> usize {
        self.loss.chunk()
    }

    /// Mean loss in nats over all trained tokens of `batches`, without touching the adapter.
    ///
    /// # Errors
    /// As [`Self::accumulate`].
    pub async fn evaluate(&mut self, engine: &mut Engine, batches: &[Batch]) -> Result<f64> {
        let program = self.evaluation_of(engine, self.loss)?;
        Ok(self.loss.mean(engine, program, batches).await?.0)
    }

    /// The program without gradients for batches of a shape, compiled at first use.
    fn evaluation_of(&mut self, engine: &mut Engine, shape: LossBuffers) -> Result<ProgramId> {
        engine.owns(&self.resources)?;
        if let Some((_, program)) = self.evaluate.iter().find(|(tokens, _)| *tokens == shape.tokens()) {
            return Ok(*program);
        }
        let plan = shape.plan(engine, &self.sites, None);
        let program = engine.compile(&mut self.resources, &plan)?;
        self.evaluate.push((shape.tokens(), program));
        Ok(program)
    }

    /// Length of [`Self::values`].
    pub fn words(&self) -> u64 {
        self.arena.words()
    }

    /// The adapter's values as they lie on the device.
    ///
    /// # Errors
    /// A device failure.
    pub async fn values(&self, engine: &mut Engine) -> Result<Vec<u32>> {
        self.read(engine, self.buffers.parameters).await
    }

    /// Puts values of [`Self::values`] back.
    ///
    /// # Errors
    /// Values of another trainer, or a device failure.
    pub fn set_values(&self, engine: &mut Engine, values: &[u32]) -> Result<()> {
        engine.owns(&self.resources)?;
        engine.backend.write(self.buffers.parameters, 0, values)
    }

    /// Makes the adapter one that has learned nothing: `start`, or one that changes nothing.
    ///
    /// # Errors
    /// A device failure.
    pub fn forget(&self, engine: &mut Engine, start: Option<&AdapterFile>) -> Result<()> {
        engine.owns(&self.resources)?;
        let words = start.map_or_else(|| self.arena.neutral(), |start| self.arena.pack(start));
        engine.backend.write(self.buffers.parameters, 0, &words)
    }

    /// The adapter as it is now.
    ///
    /// # Errors
    /// A device failure, or a value that is not finite.
    pub async fn adapter(&self, engine: &mut Engine) -> Result<AdapterFile> {
        let words = self.read(engine, self.buffers.parameters).await?;
        let parameters = self.arena.unpack(&words);
        match parameters.iter().find(|parameter| parameter.values.iter().any(|v| !v.is_finite())) {
            Some(parameter) => Err(Error::NonFinite(format!("the adapter on {}", parameter.site))),
            None => Ok(AdapterFile { parameters, ..self.adapter.clone() }),
        }
    }

    /// The summed gradients of all parameters, as they are before [`Self::update`].
    ///
    /// # Errors
    /// A device failure.
    pub async fn gradients(&self, engine: &mut Engine) -> Result<AdapterFile> {
        let words = self.read(engine, self.buffers.gradients).await?;
        let parameters = self.arena.unpack(&words);
        Ok(AdapterFile { parameters, ..self.adapter.clone() })
    }

    /// Updates done: the optimizer's own count, without the skipped ones.
    pub fn updates(&self) -> u64 {
        self.step
    }

    /// Everything on the device that training changes: the stored buffers of adapter and optimizer by name, summed
    /// gradients among them.
    ///
    /// # Errors
    /// A device failure.
    pub async fn buffers(&self, engine: &mut Engine) -> Result<Vec<(String, Vec<u32>)>> {
        engine.owns(&self.resources)?;
        let mut buffers = Vec::new();
        for (id, name, words) in self.changing(engine) {
            buffers.push((name, engine.backend.read(id, 0, words).await?));
        }
        Ok(buffers)
    }

    /// Puts [`Self::buffers`] of a trainer of the same base, adapter and options back, after `updates` updates.
    ///
    /// # Errors
    /// [`Error::Argument`] for buffers of another trainer, or a device failure.
    pub fn restore(&mut self, engine: &mut Engine, buffers: &[(String, Vec<u32>)], updates: u64) -> Result<()> {
        engine.owns(&self.resources)?;
        let changing = self.changing(engine);
        let lengths = |list: &mut dyn Iterator<Item = (&str, u64)>| {
            list.map(|(name, words)| format!("{name} ({words} words)")).collect::<Vec<_>>().join(", ")
        };
        let needed = lengths(&mut changing.iter().map(|(_, name, words)| (name.as_str(), *words)));
        let found = lengths(&mut buffers.iter().map(|(name, words)| (name.as_str(), words.len() as u64)));
        if needed != found {
            return Err(Error::Argument(format!("the state of the run has {found}; it needs {needed}")));
        }
        for ((id, ..), (_, words)) in changing.iter().zip(buffers) {
            engine.backend.write(*id, 0, words)?;
        }
        self.step = updates;
        Ok(())
    }

    /// The stored buffers that training changes.
    fn changing(&self, engine: &Engine) -> Vec<(StorageId, String, u64)> {
        let entries = self.resources.buffers().iter().map(|id| (*id, engine.storage.get(*id)));
        let changing = entries.filter(|(_, entry)| matches!(entry.pool, Pool::Adapter | Pool::Optimizer));
        changing.map(|(id, entry)| (id, entry.name.clone(), entry.words)).collect()
    }

    async fn read(&self, engine: &mut Engine, id: StorageId) -> Result<Vec<u32>> {
        engine.owns(&self.resources)?;
        engine.backend.read(id, 0, self.arena.words()).await
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

fn reverse(options: &TrainOptions) -> Reverse {
    Reverse { checkpointing: options.checkpointing.unwrap_or_default(), measured: false }
}

/// Declares the magnitudes of the noise on the embeddings, if there is to be any.
fn noise(engine: &mut Engine, resources: &mut Resources, options: &TrainOptions) -> Result<Option<StorageId>> {
    if options.neftune_noise_alpha == 0.0 {
        return Ok(None);
    }
    let tokens = options.batch.saturating_mul(options.context);
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
