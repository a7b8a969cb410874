//! What a training run is asked to do.

use std::num::NonZeroU64;

use crate::adapter::{AdapterFile, NewAdapter, Rate, Tuning};
use crate::data::{BatchOptions, Batches, Dataset};
use crate::error::Result;
use crate::option::OptionError;
use crate::plan::Checkpointing;

use super::{Keep, ObjectiveOptions, Optimizer, Schedule};

/// Options of a training run, named as in Transformers and PEFT where they have a name.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// The adapter to start when none is given.
    pub adapter: NewAdapter,
    /// What is learned.
    pub objective: ObjectiveOptions,
    /// Records per micro-batch: rows, unless a record has several sequences, see [`Self::rows`].
    pub batch: usize,
    /// Micro-batches per optimizer step.
    pub accumulate: usize,
    /// Tokens per sequence.
    pub context: usize,
    /// What the reverse pass finds of the forward one. Results have the same bits either way. `None`: everything, or
    /// what the memory has room for.
    pub checkpointing: Option<Checkpointing>,
    /// Rows of logits that exist at once. `None`: by the vocabulary, or what the memory has room for.
    pub loss_chunk: Option<usize>,
    /// Most bytes that training may take: micro-batch, checkpointing and loss chunk are chosen so that it does, see
    /// [`super::MemoryPlan::budget`]. The rows of a step stay the same.
    pub budget: Option<u64>,
    /// Largest learning rate.
    pub lr: f32,
    /// How it falls.
    pub schedule: Schedule,
    /// Steps until it is reached.
    pub warmup: u64,
    /// Optimizer steps; `None`: as many as `epochs` take.
    pub steps: Option<u64>,
    /// Passes over the data, if `steps` is not given.
    pub epochs: u64,
    /// How gradients become steps.
    pub optimizer: Optimizer,
    /// Factor on the learning rate of LoRA's B (LoRA+, Hayou et al. 2024); 1 for the same rate.
    pub loraplus_lr_ratio: f32,
    /// Rate of the dropout on what an adapter sees of a layer's input (PEFT's `lora_dropout`); 0 for none.
    pub dropout: f32,
    /// Noise on the embeddings of training (NEFTune, Jain et al. 2023): uniform in plus and minus this over the root
    /// of tokens of the example times width, before the model scales embeddings; 0 for none.
    pub neftune_noise_alpha: f32,
    /// Largest global gradient norm; 0 switches clipping off.
    pub clip: f32,
    /// Seed of the data order, of dropout and of noise; a new adapter's is in [`NewAdapter`].
    pub seed: u64,
    /// Whether examples are shuffled in each epoch.
    pub shuffle: bool,
    /// Whether several short examples share a row, without attention between them; not for records of several
    /// sequences.
    pub pack: bool,
    /// Rows of similar length share a step, so that there is less to pad; not with [`Self::pack`].
    pub group_by_length: bool,
    /// The lengths that rows of a micro-batch may have, in tokens, the longest first. `None`: as the data needs them,
    /// see [`Self::fitted`].
    pub lengths: Option<Vec<usize>>,
    /// Evaluate every so many steps; `None`: only before and after.
    pub eval_every: Option<NonZeroU64>,
    /// End after so many evaluations in a row that were not better than the best before them; `None`: never.
    pub patience: Option<NonZeroU64>,
    /// Which adapter is the result where there is held-out data.
    pub keep: Keep,
    /// Return an adapter even if the run ended with numbers that are not finite or made the held-out loss worse.
    pub force: bool,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            adapter: NewAdapter::default(),
            objective: ObjectiveOptions::default(),
            batch: 4,
            accumulate: 1,
            context: 512,
            checkpointing: None,
            loss_chunk: None,
            budget: None,
            lr: 2e-4,
            schedule: Schedule::Cosine,
            warmup: 0,
            steps: None,
            epochs: 3,
            optimizer: Optimizer::default(),
            loraplus_lr_ratio: 1.0,
            dropout: 0.0,
            neftune_noise_alpha: 0.0,
            clip: 1.0,
            seed: 0,
            shuffle: true,
            pack: true,
            group_by_length: false,
            lengths: None,
            eval_every: None,
            patience: None,
            keep: Keep::Best,
            force: false,
        }
    }
}

impl TrainOptions {
    /// How examples become batches.
    pub fn batches(&self) -> BatchOptions {
        let Self { batch, accumulate, context, shuffle, seed, group_by_length, .. } = *self;
        let sequences = self.objective.objective.records.sequences();
        let pack = self.pack && sequences == 1;
        let lengths = self.lengths.clone();
        BatchOptions { sequences, batch, accumulate, context, pack, shuffle, seed, group_by_length, lengths }
    }

    /// The same for this data: rows are no longer than the longest of it, and micro-batches as long as their longest
    /// row. Nothing is computed that only pads, and what is computed for the examples stays the same.
    ///
    /// # Errors
    /// As [`Batches::new`].
    pub fn fitted(&self, data: &Dataset, held_out: Option<&Dataset>) -> Result<Self> {
        let (steps, warmup) = (self.planned_steps(data)?, self.warmup);
        if warmup > steps {
            return Err(OptionError::range("warmup", warmup, format!("at most the {steps} steps of the run")).into());
        }
        let lengths = Batches::new(&data.examples, self.batches())?.lengths();
        let held_out = held_out.iter().flat_map(|data| &data.examples).map(|example| example.tokens.len());
        let longest = held_out.chain(lengths.first().copied()).max().unwrap_or(self.context);
        let lengths = if self.lengths.is_some() { self.lengths.clone() } else { Some(lengths) };
        Ok(Self { context: longest.min(self.context), lengths, ..self.clone() })
    }

    /// Optimizer steps on `data`.
    ///
    /// # Errors
    /// As [`Batches::new`].
    pub fn planned_steps(&self, data: &Dataset) -> Result<u64> {
        if let Some(steps) = self.steps {
            return Ok(steps);
        }
        let per_epoch = Batches::new(&data.examples, self.batches())?.steps_per_epoch() as u64;
        Ok(self.epochs.saturating_mul(per_epoch))
    }

    /// Rows of a micro-batch.
    pub fn rows(&self) -> usize {
        self.batch.saturating_mul(self.objective.objective.records.sequences())
    }

    /// Checks that the method of `adapter` has what is asked for.
    ///
    /// # Errors
    /// [`crate::Error::Option`].
    pub fn check_for(&self, adapter: &AdapterFile) -> Result<()> {
        let (tuning, dropout, ratio) = (Tuning::for_method(adapter.method), self.dropout, self.loraplus_lr_ratio);
        if dropout > 0.0 {
            (tuning.drops)(adapter).map_err(|why| OptionError::new("dropout", format!("is {dropout}: {why}")))?;
        }
        if ratio != 1.0 && tuning.parts.iter().all(|part| part.rate != Rate::LoraPlus) {
            let problem = format!("is {ratio}: {} has no part that it is for", adapter.method.name);
            return Err(OptionError::new("loraplus_lr_ratio", problem).into());
        }
        Ok(())
    }

    /// The same steps in micro-batches of `batch` rows, which divides the present number.
    #[must_use]
    pub fn in_batches_of(&self, batch: usize) -> Self {
        let accumulate = self.accumulate.saturating_mul(self.batch / batch.max(1));
        Self { batch, accumulate, ..self.clone() }
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`crate::Error::Option`].
    pub fn check(&self) -> Result<()> {
        let positive = |name, ok: bool, value: &dyn std::fmt::Display| {
            if ok { Ok(()) } else { Err(OptionError::range(name, value, "positive")) }
        };
        let not_negative = |name, value: f32| {
            let ok = value.is_finite() && value >= 0.0;
            if ok { Ok(()) } else { Err(OptionError::range(name, value, "0 or positive")) }
        };
        self.objective.check()?;
        positive("batch", self.batch > 0, &self.batch)?;
        positive("accumulate", self.accumulate > 0, &self.accumulate)?;
        if self.pack && self.group_by_length {
            return Err(OptionError::excludes("group_by_length", "pack").into());
        }
        if self.patience.is_some() && self.eval_every.is_none() {
            return Err(OptionError::needs("patience", "eval_every").into());
        }
        if self.context < 2 {
            return Err(OptionError::range("context", self.context, "at least 2 tokens").into());
        }
        positive("loss_chunk", self.loss_chunk != Some(0), &0)?;
        positive("lr", self.lr.is_finite() && self.lr > 0.0, &self.lr)?;
        positive("steps", self.steps != Some(0), &0)?;
        positive("epochs", self.epochs > 0, &self.epochs)?;
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(OptionError::range("dropout", self.dropout, "at least 0 and below 1").into());
        }
        not_negative("neftune_noise_alpha", self.neftune_noise_alpha)?;
        not_negative("clip", self.clip)?;
        let ratio = self.loraplus_lr_ratio;
        positive("loraplus_lr_ratio", ratio.is_finite() && ratio > 0.0, &ratio)?;
        self.optimizer.check()
    }
}
