//! What a model makes of data files: losses of examples and answers to questions.

use loam::Base;
use loam::data::{Dataset, Pairs};
use loam::engine::{AdapterHandle, Engine};
use loam::evaluate::{Scorer, Sums, answers};
use loam::generate::Session;

use super::sets::Set;
use crate::failure::Result;
use crate::output::Output;

/// Sequences per run.
const BATCH: usize = 4;

/// What was measured on one data file.
#[derive(Debug, Default)]
pub struct Measured {
    /// Losses of the trained tokens of each example; none if they were not asked for.
    pub losses: Vec<Sums>,
    /// The same of the windows of llama-perplexity.
    pub windows: Vec<Sums>,
    /// Answers with their references.
    pub answers: Vec<(String, String)>,
}

impl Measured {
    /// All of several files as one.
    pub fn joined(all: &[Measured]) -> Measured {
        Measured {
            losses: all.iter().flat_map(|one| one.losses.iter().copied()).collect(),
            windows: all.iter().flat_map(|one| one.windows.iter().copied()).collect(),
            answers: all.iter().flat_map(|one| one.answers.iter().cloned()).collect(),
        }
    }
}

/// A model on a device.
pub struct Model<'a> {
    /// The base.
    pub base: &'a Base,
    /// The device with its weights.
    pub engine: &'a mut Engine,
    /// Longest sequence.
    pub context: usize,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Where progress goes.
    pub output: Output,
}

impl Model<'_> {
    /// Measures the model with `adapters` on all of `sets`.
    pub fn measure(&mut self, adapters: &AdapterHandle, sets: &[Set]) -> Result<Vec<Measured>> {
        sets.iter().map(|set| self.one(adapters, set)).collect()
    }

    fn one(&mut self, adapters: &AdapterHandle, set: &Set) -> Result<Measured> {
        let mut measured = Measured::default();
        if set.loss {
            measured.losses = self.losses(adapters, &set.data, "loss")?;
        }
        if let Some(windows) = &set.windows {
            measured.windows = self.losses(adapters, windows, "windows")?;
        }
        if let Some(pairs) = &set.pairs {
            measured.answers = self.answers(adapters, pairs)?;
        }
        Ok(measured)
    }

    fn losses(&mut self, adapters: &AdapterHandle, data: &Dataset, what: &'static str) -> Result<Vec<Sums>> {
        let batches = data.in_order(BATCH, self.context)?;
        let mut progress = self.output.progress(what, batches.len());
        let mut scorer = pollster::block_on(Scorer::new(self.engine, adapters, BATCH, self.context))?;
        let mut told = |done| progress.at(done);
        let losses = pollster::block_on(scorer.examples(self.engine, &batches, &mut told))?;
        progress.finish()?;
        Ok(losses)
    }

    fn answers(&mut self, adapters: &AdapterHandle, pairs: &Pairs) -> Result<Vec<(String, String)>> {
        let context = pairs.context(self.max_tokens, self.base.config().context);
        let mut session = pollster::block_on(Session::new(self.engine, context, adapters))?;
        let mut progress = self.output.progress("answer", pairs.pairs.len());
        let (tokenizer, mut told) = (self.base.tokenizer()?, |done| progress.at(done));
        let work = answers(self.engine, &mut session, tokenizer, &pairs.pairs, self.max_tokens, &mut told);
        let answers = pollster::block_on(work)?;
        progress.finish()?;
        Ok(answers)
    }
}
