//! Running a program: a flat loop over its dispatches, cut into submissions.

use std::collections::VecDeque;

use ::wgpu as api;
use embassy_time::{Duration, Instant};
use loam_shaders::Step;

use super::device::Gpu;
use super::program::Program;
use crate::backend::{TARGET, Times};
use crate::error::Result;

/// Submissions that may be in flight at once: enough to keep the device busy while the host records the next.
const IN_FLIGHT: usize = 3;

/// Which part of which program runs.
#[derive(Debug, Clone, Copy)]
pub struct Run<'s> {
    /// Index of the program.
    pub program: u32,
    /// What changes from run to run.
    pub step: &'s Step,
    /// The segment to begin with.
    pub segment: usize,
}

/// A submission that has not been seen to complete.
#[derive(Debug)]
struct Submission {
    index: api::SubmissionIndex,
    started: Instant,
    program: u32,
    version: u32,
    segment: usize,
}

/// Submissions in flight, oldest first.
#[derive(Debug)]
pub struct InFlight {
    queue: VecDeque<Submission>,
    /// When the last submission was seen to complete.
    completed: Instant,
    /// Longest time of one submission.
    pub target: Duration,
}

impl InFlight {
    /// None, of at most about `target` each.
    pub fn new(target: Duration) -> Self {
        Self { queue: VecDeque::with_capacity(IN_FLIGHT), completed: Instant::from_ticks(0), target }
    }

    /// Submits the segment that `run` names, or the next one that has something to do in this run, waiting only while
    /// too much is in flight. Returns the next segment, if there is one.
    ///
    /// # Errors
    /// If the device failed.
    pub fn run(
        &mut self,
        gpu: &Gpu,
        programs: &mut [Option<Program>],
        times: &mut Times,
        run: Run<'_>,
    ) -> Result<Option<usize>> {
        let Run { program: id, step, mut segment } = run;
        if segment == 0
            && let Some(program) = programs[id as usize].as_mut()
        {
            program.segments.adapt();
        }
        while let Some(program) = programs[id as usize].as_ref().filter(|program| segment < program.segments.len()) {
            let commands = encode(gpu, program, segment, step);
            let (version, segments) = (program.segments.version(), program.segments.len());
            segment += 1;
            if let Some(commands) = commands {
                self.make_room(gpu, programs, times)?;
                let started = Instant::now();
                let index = gpu.submit([commands]);
                gpu.check("submit", 0)?;
                self.queue.push_back(Submission { index, started, program: id, version, segment: segment - 1 });
                if self.target < TARGET {
                    // Others use the device in between: nothing is queued while it works.
                    self.settle(gpu, programs, times)?;
                }
                return Ok(Some(segment).filter(|&next| next < segments));
            }
        }
        Ok(None)
    }

    /// Waits for everything that is in flight.
    ///
    /// # Errors
    /// If the device failed.
    pub fn settle(&mut self, gpu: &Gpu, programs: &mut [Option<Program>], times: &mut Times) -> Result<()> {
        while let Some(submission) = self.queue.pop_front() {
            self.complete(gpu, programs, times, &submission)?;
        }
        Ok(())
    }

    fn make_room(&mut self, gpu: &Gpu, programs: &mut [Option<Program>], times: &mut Times) -> Result<()> {
        while self.queue.len() >= IN_FLIGHT {
            if let Some(submission) = self.queue.pop_front() {
                self.complete(gpu, programs, times, &submission)?;
            }
        }
        Ok(())
    }

    /// Waits for a submission and notes how long it took: from its start, or from the end of the one before it. If it
    /// had completed already, that is too long by the time since; such a measurement only counts as an upper bound,
    /// which is good enough to join segments and never a reason to cut one.
    fn complete(
        &mut self,
        gpu: &Gpu,
        programs: &mut [Option<Program>],
        times: &mut Times,
        submission: &Submission,
    ) -> Result<()> {
        let late = gpu.completed(&submission.index)?;
        if !late {
            gpu.wait(&submission.index)?;
        }
        let now = Instant::now();
        let micros = now.saturating_duration_since(submission.started.max(self.completed)).as_micros();
        self.completed = now;
        match late {
            true => times.unmeasured += 1,
            false => times.add(micros),
        }
        if let Some(program) = programs.get_mut(submission.program as usize).and_then(Option::as_mut) {
            program.segments.measure(submission.version, submission.segment, micros, late);
        }
        Ok(())
    }
}

/// The commands of one segment, or none if all of its nodes sit this run out.
fn encode(gpu: &Gpu, program: &Program, segment: usize, step: &Step) -> Option<api::CommandBuffer> {
    let dispatches = &program.dispatches[program.segments.nodes(segment)];
    let mut active = dispatches.iter().filter(|d| d.when.holds(step)).peekable();
    active.peek()?;
    let label = Some(program.name.as_str());
    let mut encoder = gpu.device.create_command_encoder(&api::CommandEncoderDescriptor { label });
    let mut pass = encoder.begin_compute_pass(&api::ComputePassDescriptor { label, timestamp_writes: None });
    for dispatch in active {
        pass.set_pipeline(&dispatch.pipeline);
        pass.set_bind_group(0, &dispatch.operands, &[]);
        pass.set_bind_group(1, &program.uniforms, &[dispatch.params]);
        pass.dispatch_workgroups(dispatch.grid[0], dispatch.grid[1], dispatch.grid[2]);
    }
    drop(pass);
    Some(encoder.finish())
}
