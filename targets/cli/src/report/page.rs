//! The page of a training in the making: asks the base before it, collects what happens, asks again after it.

use loam::adapter::AdapterFile;
use loam::data::{Dataset, Pair};
use loam::engine::Engine;
use loam::file::AtomicFile;
use loam::train::{Event, Outcome};
use loam::{Base, TrainOptions};

use super::{Report, Sample, facts, samples};
use crate::args::TrainArgs;
use crate::failure::Result;

/// The page of `--report` during the run.
pub struct Page {
    file: AtomicFile,
    report: Report,
    asked: Vec<(Pair, Sample)>,
    data: String,
}

impl Page {
    /// Asks the base first. The page is to be written to `file`.
    pub fn begin(
        file: AtomicFile,
        args: &TrainArgs,
        (base, engine): (&Base, &mut Engine),
        (data, held_out): (&Dataset, Option<&Dataset>),
        options: &TrainOptions,
    ) -> Result<Self> {
        let asked = samples::before(base, engine, held_out.unwrap_or(data))?;
        let report = Report { options: facts::options(args, options), ..Report::default() };
        Ok(Page { file, report, asked, data: data.digest.clone() })
    }

    /// Takes an event of the run.
    pub fn take(&mut self, event: &Event) {
        self.report.history.take(event);
    }

    /// Asks again, with the adapter that was written, and writes the page.
    pub fn end(
        mut self,
        args: &TrainArgs,
        (base, engine): (&Base, &mut Engine),
        published: &Result<(AdapterFile, Outcome)>,
    ) -> Result {
        match published {
            Ok((adapter, outcome)) => {
                samples::after(base, engine, &mut self.asked, (adapter, &args.output))?;
                self.report.results = facts::results(args, outcome);
            }
            Err(failure) => self.report.failure = Some(failure.message()),
        }
        let device = &engine.backend.info().name;
        self.report.results.extend(facts::origins(base, &self.data, device)?);
        self.report.samples = self.asked.into_iter().map(|(_, sample)| sample).collect();
        self.report.write(self.file)
    }
}
