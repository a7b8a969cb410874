//! What a training run is asked to do.

use crate::adapter::LoraOptions;
use crate::data::BatchOptions;
use crate::error::{Error, Result};
use crate::ops::adamw::AdamW;
use crate::plan::Checkpointing;

use super::Schedule;

/// Options of a training run, named as in Transformers and PEFT where they have a name.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// The adapter to start when none is given.
    pub lora: LoraOptions,
    /// Sequences per micro-batch.
    pub batch: usize,
    /// Micro-batches per optimizer step.
    pub accumulate: usize,
    /// Tokens per sequence.
    pub context: usize,
    /// What the reverse pass finds of the forward one. Results have the same bits either way. `None`: everything, or what
    /// the memory has room for.
    pub checkpointing: Option<Checkpointing>,
    /// Rows of logits that exist at once. `None`: by the vocabulary, or what the memory has room for.
    pub loss_chunk: Option<usize>,
    /// Most bytes that training may take: micro-batch, checkpointing and loss chunk are chosen so that it does, see
    /// [`super::MemoryPlan::bytes`]. The rows of a step stay the same.
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
    /// AdamW's constants.
    pub adamw: AdamW,
    /// Largest global gradient norm; 0 switches clipping off.
    pub clip: f32,
    /// Seed of the data order (and, in [`LoraOptions`], of A).
    pub seed: u64,
    /// Whether examples are shuffled in each epoch.
    pub shuffle: bool,
    /// Whether several short examples share a row, without attention between them.
    pub pack: bool,
    /// Evaluate every so many steps; 0: only before and after.
    pub eval_every: u64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            lora: LoraOptions::default(),
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
            // Transformers' default; AdamW's own is PyTorch's 0.01.
            adamw: AdamW { weight_decay: 0.0, ..AdamW::default() },
            clip: 1.0,
            seed: 0,
            shuffle: true,
            pack: true,
            eval_every: 0,
        }
    }
}

impl TrainOptions {
    /// How examples become batches.
    pub fn batches(&self) -> BatchOptions {
        let Self { batch, accumulate, context, pack, shuffle, seed, .. } = *self;
        BatchOptions { batch, accumulate, context, pack, shuffle, seed }
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the option.
    pub fn check(&self) -> Result<()> {
        let positive = |name: &str, ok: bool, value: &dyn std::fmt::Display| {
            if ok { Ok(()) } else { Err(Error::Argument(format!("{name} is {value}, it must be positive"))) }
        };
        let not_negative = |name: &str, value: f32| {
            let ok = value.is_finite() && value >= 0.0;
            if ok { Ok(()) } else { Err(Error::Argument(format!("{name} is {value}, it must be 0 or positive"))) }
        };
        positive("batch", self.batch > 0, &self.batch)?;
        positive("accumulate", self.accumulate > 0, &self.accumulate)?;
        if self.context < 2 {
            return Err(Error::Argument(format!("context is {}, it must be at least 2 tokens", self.context)));
        }
        positive("loss-chunk", self.loss_chunk != Some(0), &0)?;
        positive("lr", self.lr.is_finite() && self.lr > 0.0, &self.lr)?;
        positive("steps", self.steps != Some(0), &0)?;
        positive("epochs", self.epochs > 0, &self.epochs)?;
        not_negative("weight-decay", self.adamw.weight_decay)?;
        not_negative("clip", self.clip)?;
        for (name, beta) in [("beta1", self.adamw.beta1), ("beta2", self.adamw.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::Argument(format!("{name} is {beta}, it must be at least 0 and below 1")));
            }
        }
        positive("eps", self.adamw.eps.is_finite() && self.adamw.eps > 0.0, &self.adamw.eps)
    }
}
