//! Executes what [`next`] names, on any back end: a device, or a rehearsal that only counts memory.

mod ending;
mod evaluation;
mod general;
mod stepping;

use std::path::PathBuf;

use embassy_time::{Duration, Instant};

use super::next::{Action, Agenda, Now, Position, next};
use super::{Control, Event, Events, Job, Outcome, Progress};
use crate::adapter::AdapterFile;
use crate::backend::{Memory, Times};
use crate::data::{Batch, Batches, Example, OptimizerStep};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::train::checkpoint::State;
use crate::train::objective::{KnownReferences, References};
use crate::train::safety::{Deadline, Recovery, Throttle};
use crate::train::{MemoryPlan, Pass, TrainOptions, Trainer};

/// Keeps a state, and says where.
pub type Save = Box<dyn FnMut(&State) -> Result<PathBuf>>;

/// What a run begins with, every choice made.
pub struct Setup {
    /// The options with all that was chosen for them. Rows of a micro-batch are those of `recovery`.
    pub options: TrainOptions,
    /// What is to be done.
    pub agenda: Agenda,
    /// Rows of the general text.
    pub general: Vec<Example>,
    pub control: Control,
    pub throttle: Throttle,
    /// When the run began.
    pub began: Instant,
    pub deadline: Deadline,
    pub recovery: Recovery,
    /// Writes a checkpoint, where the run has a folder for them.
    pub save: Option<Save>,
    /// What is to be reported of the start.
    pub opening: Option<Opening>,
}

/// What is reported when base and adapter are on the device for the first time.
pub struct Opening {
    /// The memory that was predicted.
    pub memory: MemoryPlan,
    pub notes: Vec<String>,
    /// The checkpoint that the run continues from.
    pub resumed: Option<PathBuf>,
}

/// What a run ends with.
pub struct Ended {
    /// The adapter, without metadata.
    pub adapter: AdapterFile,
    pub outcome: Outcome,
    /// Why it is not to be published.
    pub refusal: Option<Error>,
}

/// A run that is under way.
pub struct Driver<'a> {
    job: &'a Job<'a>,
    setup: Setup,
    events: Events<'a>,
    engine: &'a mut Engine,
    device: Option<OnDevice<'a>>,
    progress: Progress,
    position: Position,
    lengths: Lengths,
    /// It was reported that the gradient is zero.
    is_flat: bool,
    adapter: Option<AdapterFile>,
    /// Why what came out is not to be published.
    refusal: Option<Error>,
    /// Most bytes of all copies on the host of what is on the device.
    peak_copied_bytes: u64,
    /// Most bytes of all buffers on devices that failed.
    peak_device_bytes: u64,
    /// How long submissions took before the run, on the device that it is on now.
    times_before: Times,
}

/// An adapter in training on the engine, and the batches for it.
struct OnDevice<'a> {
    trainer: Trainer,
    batches: Batches<'a>,
    held_out: Option<Batches<'a>>,
    general: Vec<Batch>,
    step: Present,
}

/// The batches of one step.
struct Present {
    /// The step, counted from 0.
    number: u64,
    batches: OptimizerStep,
}

/// Time spent on what is under way, with rests and without pauses.
#[derive(Default)]
struct Lengths {
    step: Duration,
    /// All steps that this process has done, and how many.
    steps: Duration,
    done: u64,
    evaluation: Duration,
    general: Duration,
    /// The shortest batch of the first evaluation, without its first one, which takes longer: what it needs is made.
    shortest: Option<Duration>,
}

/// A moment to measure from.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    /// How long all pauses, and all pauses and rests, were before it.
    paused: Duration,
    waited: Duration,
}

impl<'a> Driver<'a> {
    /// A run of `job` on `engine`, before its first action.
    pub fn new(job: &'a Job<'a>, engine: &'a mut Engine, setup: Setup, events: Events<'a>) -> Self {
        let progress = Progress::new(setup.recovery.batch, job.options.objective.objective);
        let times_before = engine.backend.usage().times.clone();
        Self {
            job,
            setup,
            events,
            engine,
            device: None,
            progress,
            position: Position::default(),
            lengths: Lengths::default(),
            is_flat: false,
            adapter: None,
            refusal: None,
            peak_copied_bytes: 0,
            peak_device_bytes: 0,
            times_before,
        }
    }

    /// Does the next thing, and says what it was. A failure of the device after which the run can continue is no error.
    ///
    /// # Errors
    /// [`Error::Stopped`], whatever ends the run, a failure of the device.
    pub async fn advance(&mut self) -> Result<Action> {
        let mut action = self.next();
        match self.act(&mut action).await {
            Ok(()) => {}
            Err(error) => self.recover(error)?,
        }
        Ok(action)
    }

    /// What the run ends with.
    ///
    /// # Errors
    /// [`Error::Argument`] before [`Action::Finish`].
    pub fn into_result(self) -> Result<Ended> {
        let adapter = self.adapter.ok_or_else(|| Error::Argument("the run is not at its end".into()))?;
        Ok(Ended { adapter, outcome: self.progress.outcome, refusal: self.refusal })
    }

    /// What is on the device now, and the most that was.
    pub fn memory(&self) -> &Memory {
        &self.engine.backend.usage().memory
    }

    /// Rows of logits that exist at once.
    pub fn loss_chunk(&self) -> usize {
        self.progress.loss_chunk
    }

    /// Most bytes of all copies on the host of what is on the device.
    pub fn peak_copied_bytes(&self) -> u64 {
        self.peak_copied_bytes
    }

    fn next(&self) -> Action {
        let now = Now {
            elapsed: self.setup.began.elapsed(),
            is_cancelled: self.setup.control.is_cancelled(),
            is_copy_due: self.setup.recovery.is_copy_due(),
        };
        next(&self.setup.agenda, &self.progress, &self.position, &self.setup.deadline, now)
    }

    /// Waits before `action` if the run is paused, which may change what is to be done, and does it.
    async fn act(&mut self, action: &mut Action) -> Result<()> {
        if action.can_wait() {
            let began = self.mark();
            let held = self.hold().await;
            if let Action::MicroBatch(_) = action {
                self.count(began);
            }
            held?;
            *action = self.next();
        }
        match *action {
            Action::Open => self.open().await,
            Action::Checkpoint => self.checkpoint().await,
            Action::Copy => self.copy().await,
            Action::General(batch) => self.general(batch).await,
            Action::Evaluate(batch) => self.evaluate(batch).await,
            Action::Compare => self.compare().await,
            Action::SkipEvaluation => self.skip_evaluation(),
            Action::MicroBatch(micro) => self.micro_batch(micro).await,
            Action::Update => self.update().await,
            Action::EndEarly => self.end_early().await,
            Action::Stop => self.stop().await,
            Action::Choose => self.choose(),
            Action::Judge { candidate, batch } => self.judge(candidate, batch).await,
            Action::Export => self.export().await,
            Action::Finish => self.finish(),
        }
    }

    /// Puts base and adapter on the device, and where the run stood. Reports the start, once.
    async fn open(&mut self) -> Result<()> {
        let Setup { options, agenda, recovery, general, .. } = &mut self.setup;
        let options = TrainOptions { checkpointing: Some(recovery.checkpointing), ..options.clone() };
        let options = options.in_batches_of(recovery.batch);
        let Job { start, data, held_out, .. } = self.job;
        let batches = Batches::new(&data.examples, options.batches())?;
        let held_out = held_out.map(|data| data.evaluation(options.batch, options.context)).transpose()?;
        let general = super::general::batches(general, &options)?;
        agenda.general = general.len();
        agenda.held_out = held_out.as_ref().map(Batches::steps_per_epoch);
        let number = recovery.state.as_ref().map_or(0, |state| state.progress.outcome.steps);
        let step = Present::new(&batches, number)?;
        let trainer = Trainer::new(self.engine, start.clone(), options).await?;
        self.device = Some(OnDevice { trainer, batches, held_out, general, step });
        self.restore()
    }

    /// Continues from the state that the recovery has, or from the start.
    fn restore(&mut self) -> Result<()> {
        let Self { job, setup, device, events, engine, .. } = self;
        let OnDevice { trainer, batches, .. } = on(device)?;
        let opening = setup.opening.take();
        if let Some(Opening { memory, notes, .. }) = &opening {
            let (steps, parameters) = (setup.agenda.steps, trainer.parameters());
            events.send(Event::Start { steps, parameters, memory: memory.clone() });
            notes.iter().for_each(|message| events.note(message.clone()));
        }
        let resumed = opening.and_then(|opening| opening.resumed);
        self.progress = match &setup.recovery.state {
            None => Progress::new(setup.recovery.batch, setup.options.objective.objective),
            Some(state) => {
                let summed = state.progress.micro > 0;
                trainer.restore(engine, (&state.buffers, summed), state.progress.updates).map_err(|error| {
                    match (error, &resumed) {
                        (Error::Argument(problem), Some(path)) => {
                            Error::Checkpoint { path: path.clone(), problem: problem.into() }
                        }
                        (error, _) => error,
                    }
                })?;
                state.progress.clone()
            }
        };
        let KnownReferences { train, held_out } = &self.progress.references;
        let fits =
            train.fits(job.data.examples.len()) && held_out.fits(job.held_out.map_or(0, |data| data.examples.len()));
        if let (false, Some(path)) = (fits, &resumed) {
            let problem = "has reference log-probabilities of other data".to_owned().into();
            return Err(Error::Checkpoint { path: path.clone(), problem });
        }
        // The chunk is smaller than it was if the micro-batch is.
        self.progress.loss_chunk = trainer.loss_chunk();
        let step = self.progress.outcome.steps;
        let micro_batches = batches.micro_batches(step as usize);
        self.position = Position { is_open: true, micro_batches, saved: step, copied: step, ..Position::default() };
        self.lengths = Lengths::default();
        if let Some(path) = resumed {
            let (evaluated, history) = (self.progress.is_evaluated(), Box::new(self.progress.history.clone()));
            events.send(Event::Resumed { step, evaluated, path, history });
        }
        Ok(())
    }

    /// Continues on the device, opened again, if `error` can be helped. The engine is a new one then: what other
    /// tenants had on the old one is lost with it.
    fn recover(&mut self, error: Error) -> Result<()> {
        let is_lost = matches!(error, Error::DeviceLost { .. });
        self.peak_device_bytes = self.peak_device_bytes.max(self.memory().peak_bytes);
        (self.device, self.position) = (None, Position::default());
        match self.setup.recovery.after(error, self.job.options.batch, &mut self.events) {
            Ok(backend) => {
                *self.engine = Engine::new(self.job.base, backend)?;
                self.times_before = Times::default();
                Ok(())
            }
            Err(error) if is_lost => Err(self.give_up(error)),
            Err(error) => Err(error),
        }
    }

    /// Keeps what is on the host when the device is gone for good.
    fn give_up(&mut self, error: Error) -> Error {
        if let (Some(save), Some(state)) = (&mut self.setup.save, &self.setup.recovery.state) {
            let step = state.progress.outcome.steps;
            match save(state) {
                Ok(path) => self.events.send(Event::Saved { step, path }),
                Err(error) => self.events.note(error.chain()),
            }
        }
        error
    }

    /// Waits while the run is paused.
    async fn hold(&mut self) -> Result<()> {
        let Self { setup: Setup { throttle, deadline, began, .. }, engine, events, .. } = self;
        throttle.step = self.progress.outcome.steps;
        // So far away that no clock can say it: never.
        throttle.until = deadline.latest_wait().and_then(|wait| began.checked_add(wait));
        throttle.hold(&mut *engine.backend, events).await.map(drop)
    }

    /// Now, and how long the run has waited so far.
    fn mark(&self) -> Mark {
        let throttle = &self.setup.throttle;
        Mark { at: Instant::now(), paused: throttle.paused(), waited: throttle.waited() }
    }

    /// The time since `mark` without pauses.
    fn worked(&self, mark: Mark) -> Duration {
        let paused = self.setup.throttle.paused() - mark.paused;
        Duration::from_micros(mark.at.elapsed().as_micros().saturating_sub(paused.as_micros()))
    }

    /// Counts the time since `mark` as that of training steps.
    fn count(&mut self, mark: Mark) {
        let waited = self.setup.throttle.waited() - mark.waited;
        self.progress.outcome.seconds += seconds(mark.at.elapsed());
        self.progress.outcome.paused_seconds += seconds(waited);
    }

    /// Notes the bytes of all copies on the host, of which `more` words pass.
    fn note_copies(&mut self, more: usize) {
        let best = |progress: &Progress| progress.stopping.best.as_ref().map_or(0, |best| best.values.len());
        let recovery = self.setup.recovery.state.as_ref();
        let kept: usize = recovery.map_or(0, State::words);
        let words = best(&self.progress) + kept + more;
        self.peak_copied_bytes = self.peak_copied_bytes.max(words as u64 * 4);
    }
}

/// What is on the device.
fn on<'b, 'a>(device: &'b mut Option<OnDevice<'a>>) -> Result<&'b mut OnDevice<'a>> {
    device.as_mut().ok_or_else(|| Error::Argument("nothing is on the device yet".into()))
}

impl Present {
    fn new(batches: &Batches<'_>, number: u64) -> Result<Self> {
        Ok(Self { number, batches: batches.step(number as usize)? })
    }

    /// Goes to step `number`, counted from 0, if it is another one.
    fn go_to(&mut self, batches: &Batches<'_>, number: u64) -> Result<&OptimizerStep> {
        if self.number != number {
            *self = Self::new(batches, number)?;
        }
        Ok(&self.batches)
    }
}

/// Runs what was begun, with rests between its submissions. Returns what it was for.
async fn run(
    engine: &mut Engine,
    trainer: &Trainer,
    mut pass: Pass<'_>,
    throttle: &mut Throttle,
    events: &mut Events<'_>,
) -> Result<Vec<f64>> {
    loop {
        let is_done = trainer.submit(engine, &mut pass)?;
        throttle.rest(&mut *engine.backend, events).await?;
        if is_done && !trainer.turn(engine, &mut pass).await? {
            return trainer.end(engine, pass).await;
        }
    }
}

/// The log-probabilities of the sequences of `batch` without adapter, where the objective compares with them: those
/// that are known, or else measured now.
async fn reference(
    engine: &mut Engine,
    trainer: &mut Trainer,
    batch: &Batch,
    known: &mut References,
    throttle: &mut Throttle,
    events: &mut Events<'_>,
) -> Result<Vec<f64>> {
    if !trainer.options().objective.objective.reference {
        return Ok(Vec::new());
    }
    if let Some(values) = known.get(batch) {
        return Ok(values);
    }
    let pass = trainer.begin_reference(engine, batch).await?;
    let values = run(engine, trainer, pass, throttle, events).await?;
    known.put(batch, &values);
    // What was known of some of them stays.
    known.get(batch).ok_or_else(|| Error::Argument("a batch of examples that are not in the data".into()))
}

fn seconds(length: Duration) -> f64 {
    length.as_micros() as f64 / 1e6
}
