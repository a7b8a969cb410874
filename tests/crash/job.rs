//! A training run as small as one can be that still has everything: two epochs, steps of several micro-batches, a
//! smaller last step in each epoch, held-out data.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::OnceLock;

use loam::backend::Backend;
use loam::backend::cpu::CpuBackend;
use loam::data::{Dataset, Example, Notes, Records};
use loam::digest::sha256_file;
use loam::train::checkpoint::Identity;
use loam::train::{self, Checkpoints, Event, Objective, ObjectiveOptions, RunOptions};
use loam::{Base, Engine, NewAdapter, Result, Targets, TrainOptions};
use loam_tests::convert_asset;

/// Steps of the run.
pub const STEPS: u64 = 4;

/// What is trained.
pub struct Job {
    pub base: Base,
    pub data: Dataset,
    pub held_out: Dataset,
    pub options: TrainOptions,
}

impl Job {
    pub fn new() -> Self {
        let base = Base::open(convert_asset("loam-micro", "q8_0")).expect("base");
        let targets = Some(Targets::Kinds(vec!["attn_q".into()]));
        let adapter = NewAdapter { rank: 2, seed: 3, targets, ..NewAdapter::default() };
        let options = TrainOptions {
            adapter,
            batch: 2,
            accumulate: 2,
            context: 8,
            lr: 1e-2,
            warmup: 1,
            epochs: 2,
            pack: false,
            eval_every: NonZeroU64::new(1),
            ..TrainOptions::default()
        };
        // Two steps an epoch: of 2 + 2 rows and of 2 + 1.
        Self { base, data: dataset(7, 0), held_out: dataset(3, 50), options }
    }

    /// The same with another objective, measured on what it learns from.
    pub fn named(name: &str) -> Self {
        let objective = Objective::named(name).expect("an objective");
        let mut job = Self::new();
        job.options.objective = ObjectiveOptions::new(objective);
        let (records, sequences) = (objective.records, objective.records.sequences() as u32);
        job.data = Dataset { records, ..dataset(7 * sequences, 0) };
        job.held_out = Dataset { records, ..dataset(7 * sequences, 0) };
        job
    }

    pub fn cpu() -> Box<dyn Backend> {
        Box::new(CpuBackend::new(Some(1)).expect("cpu back end"))
    }

    /// Trains and writes the adapter to `out`; its digest.
    pub fn run(
        &self,
        backend: Box<dyn Backend>,
        upkeep: RunOptions,
        out: &Path,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<String> {
        let (job, mut engine) = (self.job(), Engine::new(&self.base, backend).expect("engine"));
        let work = train::run(&job, &mut engine, upkeep, on_event);
        let (adapter, outcome) = pollster::block_on(work)?;
        assert_eq!(outcome.planned_steps, self.options.steps.unwrap_or(STEPS));
        adapter.write(out)?;
        Ok(sha256_file(out)?)
    }

    /// What is to be trained.
    pub fn job(&self) -> train::Job<'_> {
        let held_out = self.held_out();
        train::Job { held_out, ..train::Job::new(&self.base, &self.data, self.options.clone()) }
    }

    /// `None` where there are no examples: the rows of the last step then tell whether the run was of use.
    fn held_out(&self) -> Option<&Dataset> {
        Some(&self.held_out).filter(|data| !data.examples.is_empty())
    }

    /// Two steps, evaluated before and after.
    pub fn short() -> Self {
        let mut job = Self::new();
        (job.options.steps, job.options.eval_every) = (Some(2), None);
        job.held_out.examples.truncate(1);
        job
    }

    /// The digest of the adapter when nothing happens, of the job as [`Self::new`] makes it.
    pub fn golden(&self) -> String {
        static GOLDEN: OnceLock<String> = OnceLock::new();
        GOLDEN.get_or_init(|| self.undisturbed()).clone()
    }

    /// The digest of the adapter when nothing happens.
    pub fn undisturbed(&self) -> String {
        let folder = tempfile::tempdir().expect("temporary folder");
        let out = folder.path().join("adapter.gguf");
        self.run(Self::cpu(), RunOptions::default(), &out, &mut |_| ()).expect("trains")
    }

    /// What a checkpoint of this run says it is of.
    pub fn identity(&self) -> Identity {
        self.job().identity(Self::cpu().info()).expect("identity")
    }
}

/// With checkpoints in `folder` after every step, continuing from what is there.
pub fn kept_in(folder: &Path) -> RunOptions {
    let checkpoints = Checkpoints { folder: folder.join("state"), every: NonZeroU64::MIN, resume: true };
    RunOptions { checkpoints: Some(checkpoints), ..RunOptions::default() }
}

/// `count` examples of a few tokens, each set with another `first`.
pub fn dataset(count: u32, first: u32) -> Dataset {
    let example = |i: u32| Example {
        tokens: (0..5 + i % 3).map(|t| (first + 7 * i + 13 * t) % 4096).collect(),
        trained: (0..5 + i % 3).map(|t| t > i % 2).collect(),
        line: i as usize + 1,
        cut: 0,
    };
    Dataset {
        records: Records::Answers,
        examples: (0..count).map(example).collect(),
        notes: Notes::default(),
        digest: format!("{count} {first}"),
    }
}
