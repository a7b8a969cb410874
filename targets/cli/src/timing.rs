//! How long a training takes, by its first steps.

use std::num::NonZeroU64;
use std::time::Instant;

use loam::TrainOptions;
use loam::train::{Event, Job, RunOptions};

use crate::args::TrainArgs;
use crate::failure::{Failure, Result};
use crate::{model, upkeep};

/// Steps that are measured after the first one, which takes longer: what it needs is made.
const STEPS: u64 = 4;

/// Times in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// Of a step.
    pub step: f64,
    /// Of an evaluation, if there is held-out data.
    pub evaluation: Option<f64>,
    /// Of the whole run.
    pub run: f64,
}

/// Runs the first steps of `job`, and keeps nothing of them.
///
/// # Errors
/// What a run of `job` returns.
pub fn measure(args: &TrainArgs, job: Job<'_>) -> Result<Time> {
    let (steps, every) = (job.options.planned_steps(job.data)?, job.options.eval_every);
    let options = TrainOptions {
        steps: Some(steps.min(STEPS + 1)),
        warmup: 0,
        eval_every: None,
        patience: None,
        force: true,
        ..job.options
    };
    let job = Job { options, ..job };
    let mut engine = model::engine_for(job.base, &args.device, upkeep::target(&args.upkeep))?;
    let (mut started, mut evaluation, mut seen) = (Instant::now(), None, Vec::new());
    let mut on_event = |event: &Event| match event {
        Event::Start { .. } => started = Instant::now(),
        Event::Evaluated { step: 0, .. } => evaluation = Some(started.elapsed().as_secs_f64()),
        Event::Step { seconds, .. } => seen.push(*seconds),
        _ => {}
    };
    pollster::block_on(loam::train::run(&job, &mut engine, RunOptions::default(), &mut on_event))?;
    let step = match seen[..] {
        [] => return Err(Failure::Usage("the run has no step to measure".into())),
        [only] => only,
        [first, .., last] => (last - first) / (seen.len() - 1) as f64,
    };
    let evaluations = 2 + every.map_or(0, |every| steps.saturating_sub(1) / NonZeroU64::get(every));
    let run = steps as f64 * step + evaluations as f64 * evaluation.unwrap_or(0.0);
    Ok(Time { step, evaluation, run })
}

/// Seconds as people say them.
pub fn shown(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_people_use() {
        assert_eq!([shown(12.3), shown(600.0), shown(36_000.0)], ["12 s", "10 min", "10.0 h"]);
    }
}
