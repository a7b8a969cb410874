//! What stays when the device under a run is opened again: checkpoints, pace, time, and what was told.

use std::path::PathBuf;

use super::task::Task;
use super::{Control, Event, Upkeep};
use crate::adapter::AdapterFile;
use crate::backend::{Backend, Times};
use crate::base::Base;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::train::checkpoint::{Generations, State};
use crate::train::memory::{fit, keep};
use crate::train::safety::{Clock, Rescue};
use crate::train::{Checkpoints, MemoryPlan, Pace, Scope, TrainOptions};

/// What is around the attempts.
pub(super) struct Around {
    pub steps: u64,
    pub generations: Option<Generations>,
    /// A checkpoint is written every so many steps; 0: never.
    pub every: u64,
    pub control: Control,
    pub pace: Pace,
    pub clock: Clock,
    pub rescue: Rescue,
    /// What is still to be told of the beginning; `None` once it is.
    pub news: Option<News>,
    /// Steps and evaluations that were told of: those that are repeated after a loss are not told of again.
    pub told: (u64, u64),
    pub peak_device_bytes: u64,
    /// How long submissions took before the run, on the device that it is on now.
    pub times_before: Times,
}

/// What opening the folder of checkpoints brought.
pub(super) struct News {
    pub notes: Vec<String>,
    pub resumed: Option<PathBuf>,
    /// The memory that was predicted.
    pub memory: MemoryPlan,
}

/// Does everything that could refuse a run before its first step, and nothing else: for who has other work to do before it.
///
/// # Errors
/// As [`crate::train::run_with`], up to the first step.
pub async fn check(
    base: &Base,
    backend: &dyn Backend,
    start: Option<AdapterFile>,
    (data, held_out): (&Dataset, Option<&Dataset>),
    options: TrainOptions,
    checkpoints: Option<Checkpoints>,
) -> Result<()> {
    options.check()?;
    let mut task = Task { base, start, data, held_out, options };
    let upkeep = Upkeep { checkpoints, ..Upkeep::default() };
    Around::open(&mut task, backend, upkeep).await.map(drop)
}

impl Around {
    /// Opens the folder of checkpoints, if there is one, and makes the choices that the options of `task` leave open.
    pub async fn open(task: &mut Task<'_>, backend: &dyn Backend, upkeep: Upkeep) -> Result<Self> {
        let clock = Clock::new(upkeep.deadline);
        let steps = task.steps()?;
        let (mut notes, mut resumed) = (Vec::new(), None);
        let (mut generations, mut state, mut every) = (None, None, 0);
        if let Some(request) = &upkeep.checkpoints {
            let identity = task.identity(backend)?;
            let (opened, (found, problems)) = Generations::open(request, task.base.config().architecture, identity)?;
            let older = |problem| format!("{problem}; an older checkpoint is used instead");
            notes.extend(problems.into_iter().map(older));
            if found.is_none() && request.resume {
                notes.push(format!("there is no checkpoint in {} yet: the run starts", request.folder.display()));
            }
            if let Some((path, found)) = found {
                let unusable = |problem: String| Error::Checkpoint { path: path.clone(), problem: problem.into() };
                found.progress.check(&task.options, steps).map_err(unusable)?;
                (state, resumed) = (Some(found), Some(path));
            }
            notes.extend(opened.differences.iter().cloned());
            (generations, every) = (Some(opened), request.every.max(1));
        }
        let scope = Scope {
            evaluates: task.held_out.is_some(),
            checkpoints: generations.is_some(),
            resumes: state.is_some(),
            reopens: upkeep.reopen.is_some(),
            ..Scope::of(task.data, task.held_out, task.start.as_ref())
        };
        let (start, options) = (task.start.as_ref(), &task.options);
        let (chosen, memory) = match &state {
            Some(State { progress, .. }) => {
                let begun = (progress.batch, Some(progress.loss_chunk));
                keep(task.base, backend.info(), start, options, begun, scope).await?
            }
            None => fit(task.base, backend.info(), start, options, scope).await?,
        };
        if let Some(budget) = options.budget.filter(|budget| memory.budget() > *budget) {
            let bytes = memory.budget();
            notes
                .push(format!("the run goes on as it began, with {bytes} bytes instead of the {budget} of the budget"));
        }
        let open = options.checkpointing.is_none();
        (task.options.checkpointing, task.options.loss_chunk) = (chosen.checkpointing, chosen.loss_chunk);
        Ok(Self {
            steps,
            generations,
            every,
            pace: Pace::new(upkeep.duty, upkeep.control.clone(), upkeep.conditions)?,
            control: upkeep.control,
            clock,
            rescue: Rescue::new(upkeep.reopen, backend, (&chosen, open), state),
            news: Some(News { notes, resumed, memory }),
            told: (0, 0),
            peak_device_bytes: 0,
            times_before: backend.usage().times.clone(),
        })
    }

    /// Keeps what is on the host when the device is gone for good.
    pub fn give_up(&mut self, error: Error, on_event: &mut dyn FnMut(&Event)) -> Error {
        if let (Some(generations), Some(state)) = (&mut self.generations, &self.rescue.state) {
            let step = state.progress.outcome.steps;
            match generations.save(state) {
                Ok(path) => on_event(&Event::Saved { step, path }),
                Err(error) => on_event(&Event::Note { message: error.chain() }),
            }
        }
        error
    }
}
