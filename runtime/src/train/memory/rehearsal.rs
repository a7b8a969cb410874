//! A run on a back end that only counts: the loop itself says what it takes.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use embassy_time::Instant;

use super::Scope;
use crate::adapter::AdapterFile;
use crate::backend::{DeviceInfo, Kind, Memory, Rehearsal};
use crate::base::Base;
use crate::data::{Dataset, Example, Notes};
use crate::engine::Engine;
use crate::error::Result;
use crate::train::TrainOptions;
use crate::train::checkpoint::State;
use crate::train::run::{Action, Control, Driver, Events, Job, Save, Setup, agenda};
use crate::train::safety::{Deadline, Recovery, Throttle};

/// Steps of a rehearsal: in the second one a run has everything that it keeps from the first.
const STEPS: u64 = 2;

/// What a run takes.
pub struct Rehearsed {
    /// What is on the device while it trains.
    pub training: Memory,
    /// Most bytes of all buffers on the device at once.
    pub peak_device_bytes: u64,
    /// Most bytes of all copies on the host of what is on the device.
    pub peak_copied_bytes: u64,
    /// Bytes of a checkpoint, if one was written: with the best adapter, where there may be one.
    pub checkpoint_bytes: u64,
    /// Rows of logits that exist at once.
    pub loss_chunk: usize,
}

/// Goes through a run of two steps on as few data as there can be.
///
/// # Errors
/// Options that make no sense, or an adapter that does not fit the base.
pub async fn rehearse(
    base: &Base,
    info: &DeviceInfo,
    start: Option<&AdapterFile>,
    options: &TrainOptions,
    scope: Scope,
) -> Result<Rehearsed> {
    let data = data(options);
    let held_out = scope.evaluates.then_some(&data);
    let job = Job { base, start: start.cloned(), data: &data, held_out, options: shortened(options) };
    let mut ignore = |_: &_| ();
    let checkpoint = Rc::new(Cell::new(0));
    let setup = setup(&job, info, (scope, Rc::clone(&checkpoint)))?;
    let mut engine = Engine::new(base, Box::new(Rehearsal::new(info.clone())))?;
    let mut driver = Driver::new(&job, &mut engine, setup, Events::new(&mut ignore));
    let mut training = None;
    let memory = loop {
        let action = driver.advance().await?;
        let memory = driver.memory();
        match action {
            Action::Update if training.is_none() => training = Some(memory.clone()),
            Action::Finish => break memory,
            _ => {}
        }
    };
    Ok(Rehearsed {
        peak_device_bytes: memory.peak_bytes,
        training: training.unwrap_or_else(|| memory.clone()),
        peak_copied_bytes: driver.peak_copied_bytes(),
        checkpoint_bytes: checkpoint.get(),
        loss_chunk: driver.loss_chunk(),
    })
}

/// The options of a run of two steps that measures, if at all, as often as it can. Losses are all the same in a
/// rehearsal: it must not end early for that.
fn shortened(options: &TrainOptions) -> TrainOptions {
    TrainOptions {
        steps: Some(STEPS),
        // A step has a micro-batch of each shape.
        accumulate: options.batches().contexts().len(),
        pack: false,
        shuffle: false,
        eval_every: options.eval_every.and(std::num::NonZeroU64::new(1)),
        patience: None,
        ..options.clone()
    }
}

fn setup(job: &Job<'_>, info: &DeviceInfo, (scope, checkpoint): (Scope, Rc<Cell<u64>>)) -> Result<Setup> {
    let control = Control::new();
    let copies = scope.resumes || (scope.reopens && info.kind != Kind::Cpu);
    let nowhere = || {
        Box::new(move |state: &State| {
            checkpoint.set(4 * state.stored_words(scope.evaluates));
            Ok(PathBuf::new())
        }) as Save
    };
    Ok(Setup {
        options: job.options.clone(),
        // It is measured by the plan that the end needs too.
        general: Vec::new(),
        agenda: agenda(job, STEPS, scope.checkpoints.then_some(std::num::NonZeroU64::MIN)),
        throttle: Throttle::new(1.0, control.clone(), None)?,
        control,
        began: Instant::now(),
        deadline: Deadline::new(None),
        recovery: Recovery::rehearsed(&job.options, copies),
        save: scope.checkpoints.then(nowhere),
        opening: None,
    })
}

/// Most tokens of a micro-batch that rows are made for: no plan can have as many.
const MOST_TOKENS: usize = 1 << 22;

/// Full rows of each length that micro-batches have: the most that a batch can be.
fn data(options: &TrainOptions) -> Dataset {
    let row = |length: usize| Example { tokens: vec![0; length], trained: vec![true; length], line: 1, cut: 0 };
    let records = options.objective.objective.records;
    let rows = |length: usize| options.batch.min(MOST_TOKENS / length) * records.sequences();
    let lengths = options.batches().contexts().into_iter().map(|length| length.min(MOST_TOKENS));
    let examples = lengths.flat_map(|length| std::iter::repeat_n(row(length), rows(length))).collect();
    Dataset { records, examples, notes: Notes::default(), digest: String::new() }
}
