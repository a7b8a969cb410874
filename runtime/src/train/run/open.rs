//! Everything before a run's first action: the folder of checkpoints, and the choices that the options leave open.

use std::num::NonZeroU64;
use std::path::PathBuf;

use embassy_time::Instant;

use super::driver::{Opening, Save, Setup};
use super::general;
use super::next::{Agenda, Candidate};
use super::{Job, RunOptions};
use crate::backend::DeviceInfo;
use crate::error::{Error, Result};
use crate::train::checkpoint::{Generations, State};
use crate::train::memory::{check_room, fit, keep};
use crate::train::safety::{Deadline, Recovery, Throttle};
use crate::train::{Checkpoints, MemoryPlan, Scope, TrainOptions};

/// The folder of a run's checkpoints, and what was found in it.
#[derive(Default)]
struct Folder {
    generations: Option<Generations>,
    found: Option<(PathBuf, State)>,
    notes: Vec<String>,
}

impl Folder {
    /// Opens the folder that is asked for, if one is.
    fn open(job: &Job<'_>, info: &DeviceInfo, request: Option<&Checkpoints>) -> Result<Self> {
        let Some(request) = request else { return Ok(Self::default()) };
        let identity = job.identity(info)?;
        let (generations, (found, problems)) = Generations::open(request, job.base.config().architecture, identity)?;
        let older = |problem| format!("{problem}; an older checkpoint is used instead");
        let mut notes: Vec<String> = problems.into_iter().map(older).collect();
        match &found {
            None if request.resume => {
                notes.push(format!("there is no checkpoint in {} yet: the run starts", request.folder.display()));
            }
            None => {}
            Some((path, State { progress, .. })) => {
                let unusable = |problem: String| Error::Checkpoint { path: path.clone(), problem: problem.into() };
                progress.check(&job.options, job.steps()?).map_err(unusable)?;
            }
        }
        notes.extend(generations.differences.iter().cloned());
        Ok(Self { generations: Some(generations), found, notes })
    }
}

/// Checks everything that could refuse the run of `job` on the device `info` before its first action, and makes all
/// choices.
///
/// # Errors
/// As [`super::run`], up to the first action.
pub async fn open(job: &Job<'_>, info: &DeviceInfo, run: RunOptions) -> Result<Setup> {
    job.options.check()?;
    let (began, deadline) = (Instant::now(), Deadline::new(run.deadline));
    let steps = job.steps()?;
    let Folder { generations, found, mut notes } = Folder::open(job, info, run.checkpoints.as_ref())?;
    let scope = Scope {
        evaluates: job.held_out.is_some(),
        checkpoints: generations.is_some(),
        resumes: found.is_some(),
        reopens: run.reopen.is_some(),
        ..Scope::new(job.data, job.held_out, job.start.as_ref())
    };
    let options = job.options.fitted(job.data, job.held_out)?;
    let (chosen, memory) = choose(job, info, found.as_ref().map(|(_, state)| state), (&options, scope)).await?;
    check_room(info, &memory)?;
    if let Some(budget) = job.options.budget.filter(|budget| memory.budget() > *budget) {
        let bytes = memory.budget();
        notes.push(format!("the run continues as it began, with {bytes} bytes instead of the {budget} of the budget"));
    }
    let checkpoint_every = run.checkpoints.as_ref().map(|checkpoints| checkpoints.every);
    let (resumed, state) = found.unzip();
    let may_checkpoint = job.options.checkpointing.is_none();
    Ok(Setup {
        agenda: agenda(job, steps, checkpoint_every),
        general: general::rows(job.base, job.data, &options, steps)?,
        recovery: Recovery::new(run.reopen, info, &chosen, may_checkpoint, state),
        options: TrainOptions { checkpointing: chosen.checkpointing, loss_chunk: chosen.loss_chunk, ..options },
        throttle: Throttle::new(run.duty, run.control.clone(), run.conditions)?,
        control: run.control,
        began,
        deadline,
        save: generations.map(|mut generations| Box::new(move |state: &State| generations.save(state)) as Save),
        opening: Some(Opening { memory, notes, resumed }),
    })
}

/// Does everything that could refuse a run before its first action, and nothing else: for who has other work to do
/// before it.
///
/// # Errors
/// As [`super::run`], up to the first action.
pub async fn check(job: &Job<'_>, info: &DeviceInfo, checkpoints: Option<Checkpoints>) -> Result<()> {
    open(job, info, RunOptions { checkpoints, ..RunOptions::default() }).await.map(drop)
}

/// The options with every choice made, and the memory of the run. One that continues from `state` keeps its
/// micro-batches and chunks.
async fn choose(
    job: &Job<'_>,
    info: &DeviceInfo,
    state: Option<&State>,
    (options, scope): (&TrainOptions, Scope),
) -> Result<(TrainOptions, MemoryPlan)> {
    let start = job.start.as_ref();
    match state {
        Some(State { progress, .. }) => {
            let begun = TrainOptions { loss_chunk: Some(progress.loss_chunk), ..options.in_batches_of(progress.batch) };
            keep(job.base, info, start, &begun, scope).await
        }
        None => fit(job.base, info, start, options, scope).await,
    }
}

/// What the run of `job` is to do in `steps` steps.
pub fn agenda(job: &Job<'_>, steps: u64, checkpoint_every: Option<NonZeroU64>) -> Agenda {
    let Job { start, held_out, options, .. } = job;
    // Held-out data judges an adapter by what it started from, but not whether it is better than none.
    let judged = match (held_out, start) {
        (None, None) | (Some(_), Some(_)) => vec![Candidate::Trained, Candidate::Untrained],
        (None, Some(_)) => vec![Candidate::Trained, Candidate::Start, Candidate::Untrained],
        (Some(_), None) => vec![],
    };
    let (eval_every, patience) = (options.eval_every, options.patience);
    Agenda { steps, general: 0, held_out: None, eval_every, patience, checkpoint_every, judged }
}
