//! Examples to batches of fixed shape, and batches to optimizer steps.
//!
//! Which rows a step trains on is a function of (options, step number) alone: training can resume at any step. Nothing
//! is dropped: the last step of an epoch is smaller when the rows do not divide evenly. The number of trained tokens
//! of a step is exact, so every token weighs the same within a step whatever the micro-batches look like.

use std::ops::Range;

use super::lengths::lengths;
use super::order::grouped;
use super::{Example, permutation};
use crate::option::OptionError;
use crate::{Error, Result};

/// How batches are formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOptions {
    /// Sequences of a record, see [`super::Records::sequences`]: that many examples in turn share a micro-batch, each
    /// in a row of its own if they are several.
    pub sequences: usize,
    /// Records of a micro-batch; packed, rows of it.
    pub batch: usize,
    /// Micro-batches per optimizer step.
    pub accumulate: usize,
    /// Tokens per row.
    pub context: usize,
    /// Several examples share a row, each seeing only itself; only for records of one sequence.
    pub pack: bool,
    /// Another order in each epoch; otherwise file order.
    pub shuffle: bool,
    /// Seed of the order.
    pub seed: u64,
    /// Rows of similar length share a step.
    pub group_by_length: bool,
    /// The lengths that rows of a micro-batch may have, in tokens, the longest first: it has the shortest that its rows
    /// fit. `None`: the context, with `group_by_length` also a half and a quarter of it.
    pub lengths: Option<Vec<usize>>,
}

impl BatchOptions {
    /// The lengths that rows of micro-batches may have, in tokens, the longest first.
    pub fn contexts(&self) -> Vec<usize> {
        if let Some(lengths) = &self.lengths {
            return lengths.clone();
        }
        let parts: &[usize] = if self.group_by_length { &[1, 2, 4] } else { &[1] };
        let mut contexts: Vec<usize> = parts.iter().map(|part| self.context.div_ceil(*part).max(2)).collect();
        contexts.dedup();
        contexts
    }

    /// Rows of a micro-batch.
    fn rows(&self) -> usize {
        self.batch.saturating_mul(self.sequences)
    }
}

/// One micro-batch: `batch` rows of `context` tokens, flattened row by row. Unused places hold token 0 and see only
/// themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, `batch * context`.
    pub tokens: Vec<u32>,
    /// Position of each token within its example.
    pub positions: Vec<u32>,
    /// First key each token may see, as an index within its row.
    pub starts: Vec<u32>,
    /// Indices into `tokens` whose next token is trained, rising.
    pub rows: Vec<u32>,
    /// That next token, one per entry of `rows`.
    pub labels: Vec<u32>,
    /// Which labels, as entries of `rows`, belong to each example.
    pub sequences: Vec<Range<usize>>,
    /// The number of each of these examples in the list that the batch was made of.
    pub examples: Vec<usize>,
    /// Number of trained tokens: the length of `rows`.
    pub trained: usize,
    /// Number of places that hold a token of an example.
    pub tokens_used: usize,
}

impl Batch {
    /// Lays out rows of examples. Each inner list is one row and must fit `context`; there are at most `batch`.
    ///
    /// # Errors
    /// [`Error::Argument`] if a row or the list is too long, or the batch has more than 2^31 places.
    pub fn new(rows: &[Vec<&Example>], batch: usize, context: usize) -> Result<Batch> {
        let places = batch.checked_mul(context).filter(|&places| places <= 1 << 31);
        let places = places.ok_or_else(|| Error::Argument(format!("{batch} rows of {context} tokens are too many")))?;
        if rows.len() > batch {
            return Err(Error::Argument(format!("{} rows do not fit a batch of {batch}", rows.len())));
        }
        let mut out = Batch {
            tokens: vec![0; places],
            positions: vec![0; places],
            // An unused place sees itself alone: its attention is defined and nothing reads it.
            starts: (0..places).map(|place| (place % context) as u32).collect(),
            rows: Vec::new(),
            labels: Vec::new(),
            sequences: Vec::new(),
            examples: Vec::new(),
            trained: 0,
            tokens_used: 0,
        };
        for (row, examples) in rows.iter().enumerate() {
            let length: usize = examples.iter().map(|example| example.tokens.len()).sum();
            if length > context {
                return Err(Error::Argument(format!("a row of {length} tokens does not fit a context of {context}")));
            }
            let mut start = 0;
            for example in examples {
                out.place(example, row * context, start);
                start += example.tokens.len();
            }
        }
        out.trained = out.rows.len();
        Ok(out)
    }

    /// The same in longer rows: each of its `rows` gets `context` places.
    #[must_use]
    pub fn widened(&self, rows: usize, context: usize) -> Batch {
        let old = self.tokens.len() / rows.max(1);
        let at = |place: usize| place / old * context + place % old;
        let spread = |list: &[u32], unused: &dyn Fn(usize) -> u32| {
            let mut wide: Vec<u32> = (0..rows * context).map(|place| unused(place % context)).collect();
            list.iter().enumerate().for_each(|(place, value)| wide[at(place)] = *value);
            wide
        };
        Batch {
            tokens: spread(&self.tokens, &|_| 0),
            positions: spread(&self.positions, &|_| 0),
            starts: spread(&self.starts, &|place| place as u32),
            rows: self.rows.iter().map(|place| at(*place as usize) as u32).collect(),
            ..self.clone()
        }
    }

    /// A batch without padding in which every place holds token 0 and is trained, and every row is an example: the most
    /// that a batch can be.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn full(batch: usize, context: usize) -> Result<Batch> {
        let mut full = Batch::new(&[], batch, context)?;
        let places = full.tokens.len();
        full.rows = (0..places as u32).collect();
        full.labels = vec![0; places];
        full.sequences = (0..batch).map(|row| row * context..(row + 1) * context).collect();
        full.examples = (0..batch).collect();
        (full.trained, full.tokens_used) = (places, places);
        Ok(full)
    }

    /// Number of tokens of the example that each place belongs to; 1 for an unused place.
    pub fn lengths(&self) -> Vec<u32> {
        let starts: Vec<usize> = (0..self.positions.len()).filter(|&i| self.positions[i] == 0).collect();
        let ends = starts.iter().copied().skip(1).chain([self.positions.len()]);
        starts.iter().zip(ends).flat_map(|(start, end)| vec![(end - start) as u32; end - start]).collect()
    }

    /// Writes an example at `start` within the row whose first place is `base`.
    fn place(&mut self, example: &Example, base: usize, start: usize) {
        let (length, labels) = (example.tokens.len(), self.rows.len());
        let first = base + start;
        self.tokens[first..first + length].copy_from_slice(&example.tokens);
        self.starts[first..first + length].fill(start as u32);
        for t in 0..length {
            self.positions[first + t] = t as u32;
            if t + 1 < length && example.trained[t + 1] {
                self.rows.push((first + t) as u32);
                self.labels.push(example.tokens[t + 1]);
            }
        }
        self.sequences.push(labels..self.rows.len());
        self.examples.push(self.examples.len());
        self.tokens_used += length;
    }
}

/// The micro-batches of one optimizer step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptimizerStep {
    /// From 0.
    pub epoch: usize,
    /// One to `accumulate` micro-batches; none is empty.
    pub micro: Vec<Batch>,
    /// Trained tokens of all of them: the loss of the step is the sum over tokens divided by this.
    pub trained: usize,
    /// Tokens of all of them.
    pub tokens_used: usize,
}

/// The steps of a training run over a data set.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    examples: &'a [Example],
    options: BatchOptions,
    /// What stays together, as indices of examples: those of a record, or of a packed row. With packing these are
    /// formed once, so that all epochs have equally many steps.
    units: Vec<Vec<usize>>,
}

impl<'a> Batches<'a> {
    /// Prepares the rows.
    ///
    /// # Errors
    /// [`Error::Argument`] for zero rows, micro-batches or examples, an example longer than the context, no trained
    /// token at all, or records of several sequences that are packed or not whole.
    pub fn new(examples: &'a [Example], options: BatchOptions) -> Result<Self> {
        let BatchOptions { sequences, batch, accumulate, context, pack, .. } = options;
        if sequences == 0 || !examples.len().is_multiple_of(sequences) || (pack && sequences > 1) {
            let count = examples.len();
            return Err(Error::Argument(format!(
                "{count} examples are no records of {sequences} sequences (pack: {pack})"
            )));
        }
        for (option, value, least) in [("batch", batch, 1), ("accumulate", accumulate, 1), ("context", context, 2)] {
            if value < least {
                return Err(OptionError::range(option, value, format!("at least {least}")).into());
            }
        }
        if let Some(long) = examples.iter().map(|e| e.tokens.len()).find(|&length| length > context) {
            let problem = format!("is {context}, an example has {long} tokens");
            return Err(OptionError::new("context", problem).into());
        }
        if examples.iter().all(|example| example.trained_tokens() == 0) {
            return Err(Error::Argument("no example has a trained token".into()));
        }
        let useful = |unit: &Range<usize>| unit.clone().all(|i| examples[i].trained_tokens() > 0);
        let records = (0..examples.len()).step_by(sequences).map(|i| i..i + sequences).filter(useful);
        let units = match pack {
            true => pack_rows(examples, records.flatten(), context),
            false => records.map(Iterator::collect).collect(),
        };
        Ok(Batches { examples, options, units })
    }

    /// Optimizer steps of one pass over all examples.
    pub fn steps_per_epoch(&self) -> usize {
        self.units.len().div_ceil(self.options.batch.saturating_mul(self.options.accumulate))
    }

    /// Rows of one epoch: the number of examples, fewer with packing.
    pub fn rows(&self) -> usize {
        self.units.len() * self.options.sequences
    }

    /// The lengths that these rows need, see [`BatchOptions::lengths`].
    pub fn lengths(&self) -> Vec<usize> {
        lengths((0..self.units.len()).map(|unit| self.length(unit)))
    }

    /// The micro-batches of optimizer step `step`, counted from 0 over all epochs.
    ///
    /// # Errors
    /// As [`Batch::new`].
    pub fn step(&self, step: usize) -> Result<OptimizerStep> {
        let epoch = step / self.steps_per_epoch();
        self.build(epoch, step % self.steps_per_epoch(), &self.order(epoch))
    }

    /// Micro-batches of optimizer step `step`, counted from 0 over all epochs: fewer in the last one of an epoch, where
    /// the rows do not divide evenly.
    pub fn micro_batches(&self, step: usize) -> usize {
        let per_step = self.options.batch.saturating_mul(self.options.accumulate);
        let first = (step % self.steps_per_epoch()).saturating_mul(per_step);
        self.units.len().saturating_sub(first).min(per_step).div_ceil(self.options.batch)
    }

    /// All steps of an epoch, in order.
    pub fn epoch(&self, epoch: usize) -> impl Iterator<Item = Result<OptimizerStep>> + '_ {
        let order = self.order(epoch);
        (0..self.steps_per_epoch()).map(move |index| self.build(epoch, index, &order))
    }

    /// `steps` steps from `first` on, through as many epochs as it takes.
    pub fn steps(&self, first: usize, steps: usize) -> impl Iterator<Item = Result<OptimizerStep>> + '_ {
        (first..first.saturating_add(steps)).map(|step| self.step(step))
    }

    fn order(&self, epoch: usize) -> Vec<usize> {
        let BatchOptions { batch, accumulate, shuffle, seed, group_by_length, .. } = self.options;
        let order = match shuffle {
            true => permutation(self.units.len(), seed, epoch as u64),
            false => (0..self.units.len()).collect(),
        };
        if !group_by_length {
            return order;
        }
        let shuffle = shuffle.then_some((seed, epoch as u64));
        grouped(order, |unit| self.length(unit), batch.saturating_mul(accumulate), shuffle)
    }

    /// The rows of a unit.
    fn rows_of(&self, unit: usize) -> impl Iterator<Item = &[usize]> {
        // A record's examples have a row each, those of a packed row one for all.
        let each = if self.options.pack { self.units[unit].len() } else { 1 };
        self.units[unit].chunks(each)
    }

    /// Tokens of the longest row of a unit.
    fn length(&self, unit: usize) -> usize {
        let tokens = |row: &[usize]| row.iter().map(|&i| self.examples[i].tokens.len()).sum();
        self.rows_of(unit).map(tokens).max().unwrap_or(0)
    }

    fn build(&self, epoch: usize, index: usize, order: &[usize]) -> Result<OptimizerStep> {
        let per_step = self.options.batch.saturating_mul(self.options.accumulate);
        let first = index.saturating_mul(per_step).min(order.len());
        let chosen = &order[first..first.saturating_add(per_step).min(order.len())];
        let micro: Vec<Batch> =
            chosen.chunks(self.options.batch).map(|units| self.micro(units)).collect::<Result<_>>()?;
        let trained = micro.iter().map(|batch| batch.trained).sum();
        let tokens_used = micro.iter().map(|batch| batch.tokens_used).sum();
        Ok(OptimizerStep { epoch, micro, trained, tokens_used })
    }

    /// The micro-batch of `units`.
    fn micro(&self, units: &[usize]) -> Result<Batch> {
        let longest = units.iter().map(|&unit| self.length(unit)).max().unwrap_or(0);
        let context = self.options.contexts().into_iter().rev().find(|&context| context >= longest);
        let rows = units.iter().flat_map(|&unit| self.rows_of(unit));
        let rows: Vec<Vec<&Example>> = rows.map(|row| row.iter().map(|&i| &self.examples[i]).collect()).collect();
        let batch = Batch::new(&rows, self.options.rows(), context.unwrap_or(self.options.context))?;
        let examples = units.iter().flat_map(|&unit| self.units[unit].iter().copied()).collect();
        Ok(Batch { examples, ..batch })
    }
}

/// Packs examples into rows of at most `context` tokens: best fit, the longest first (best-fit decreasing).
fn pack_rows(examples: &[Example], useful: impl Iterator<Item = usize>, context: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = useful.collect();
    order.sort_by_key(|&i| std::cmp::Reverse(examples[i].tokens.len()));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // Rows by free places; the row number makes entries unique and ties fall to the oldest row.
    let mut free = std::collections::BTreeSet::new();
    for i in order {
        let length = examples[i].tokens.len();
        let found = free.range((length, 0)..).next().copied();
        let (places, row) = found.unwrap_or_else(|| {
            rows.push(Vec::new());
            (context, rows.len() - 1)
        });
        free.remove(&(places, row));
        rows[row].push(i);
        free.insert((places - length, row));
    }
    // File order within and between rows, so that an unshuffled run still goes through the file from front to back.
    rows.iter_mut().for_each(|row| row.sort_unstable());
    rows.sort();
    rows
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
