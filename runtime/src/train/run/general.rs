//! A general text, plain English prose: how well a model still knows it tells what it forgets while it learns.

use crate::base::Base;
use crate::data::{Batch, BatchOptions, Batches, Dataset, Example};
use crate::error::Result;
use crate::train::TrainOptions;

/// The text, written for this.
const TEXT: &str = include_str!("general.txt");

/// The work on it, before and after, is at most this share of that on the run's steps.
const SHARE: f64 = 0.05;
/// A micro-batch takes as long as so many passes forward.
const PASSES: f64 = 3.0;
/// Fewest tokens that tell anything.
const FEWEST: usize = 128;

/// As much of the text as a run of `steps` steps on `data` may take time for, in rows as long as those of the run: none
/// for a run that is too short.
///
/// # Errors
/// A tokenizer that cannot be read.
pub fn rows(base: &Base, data: &Dataset, options: &TrainOptions, steps: u64) -> Result<Vec<Example>> {
    let per_epoch = Batches::new(&data.examples, options.batches())?.steps_per_epoch();
    let tokens: usize = data.examples.iter().map(|example| example.tokens.len()).sum();
    let trained = tokens as f64 / per_epoch as f64 * steps as f64;
    let most = (trained * PASSES * SHARE / 2.0) as usize;
    if most < FEWEST {
        return Ok(Vec::new());
    }
    let mut tokens = base.tokenizer()?.encode(TEXT, false, false)?;
    tokens.truncate(most);
    if tokens.len() < FEWEST {
        return Ok(Vec::new());
    }
    let row = |tokens: &[u32]| Example { tokens: tokens.to_vec(), trained: vec![true; tokens.len()], line: 1, cut: 0 };
    Ok(tokens.chunks(options.context).filter(|row| row.len() > 1).map(row).collect())
}

/// These rows in micro-batches like those of the run.
///
/// # Errors
/// As [`Batches::new`].
pub fn batches(rows: &[Example], options: &TrainOptions) -> Result<Vec<Batch>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let alike = BatchOptions {
        sequences: 1,
        batch: options.rows(),
        accumulate: 1,
        pack: false,
        shuffle: false,
        group_by_length: false,
        lengths: None,
        ..options.batches()
    };
    let steps = Batches::new(rows, alike)?.epoch(0).collect::<Result<Vec<_>>>()?;
    Ok(steps.into_iter().flat_map(|step| step.micro).collect())
}
