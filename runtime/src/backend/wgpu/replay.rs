//! Running a program: a flat loop over its dispatches, cut into submissions.

use std::collections::VecDeque;

use ::wgpu as api;
use embassy_time::{Duration, Instant};
use loam_shaders::Step;

use super::device::Gpu;
use super::program::Program;
use crate::backend::{TARGET, Times};
use crate::error::Result;

/// Submissions that may be under way at once: enough to keep the device busy while the host records the next.
const IN_FLIGHT: usize = 3;

/// A submission that has not been seen to complete.
#[derive(Debug)]
struct Flight {
    submission: api::SubmissionIndex,
    started: Instant,
    program: u32,
    version: u32,
    segment: usize,
}

/// Submissions under way, oldest first.
#[derive(Debug)]
pub struct Flights {
    queue: VecDeque<Flight>,
    /// When the last submission was seen to complete.
    landed: Instant,
    /// Longest time of one submission. Programs that are compiled from then on keep to it.
    pub target: Duration,
    /// How long submissions took.
    pub times: Times,
}

impl Flights {
    /// None.
    pub fn new() -> Self {
        Self {
            queue: VecDeque::with_capacity(IN_FLIGHT),
            landed: Instant::from_ticks(0),
            target: TARGET,
            times: Times::default(),
        }
    }

    /// Submits segment `segment` of program `id`, or the next one that has something to do in this run, waiting only
    /// while too much is under way. Returns the next segment, if there is one.
    ///
    /// # Errors
    /// If the device failed.
    pub fn run(
        &mut self,
        gpu: &Gpu,
        programs: &mut [Option<Program>],
        id: u32,
        step: &Step,
        mut segment: usize,
    ) -> Result<Option<usize>> {
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
                self.make_room(gpu, programs)?;
                let started = Instant::now();
                let submission = gpu.submit([commands]);
                gpu.check("submit", 0)?;
                self.queue.push_back(Flight { submission, started, program: id, version, segment: segment - 1 });
                if self.target < TARGET {
                    // Others use the device in between: nothing is queued behind it.
                    self.settle(gpu, programs)?;
                }
                return Ok(Some(segment).filter(|&next| next < segments));
            }
        }
        Ok(None)
    }

    /// Waits for everything that is under way.
    ///
    /// # Errors
    /// If the device failed.
    pub fn settle(&mut self, gpu: &Gpu, programs: &mut [Option<Program>]) -> Result<()> {
        while let Some(flight) = self.queue.pop_front() {
            self.land(gpu, programs, &flight)?;
        }
        Ok(())
    }

    fn make_room(&mut self, gpu: &Gpu, programs: &mut [Option<Program>]) -> Result<()> {
        while self.queue.len() >= IN_FLIGHT {
            if let Some(flight) = self.queue.pop_front() {
                self.land(gpu, programs, &flight)?;
            }
        }
        Ok(())
    }

    /// Waits for a submission and notes how long it took: from its start, or from the end of the one before it. If it had
    /// completed already, that is too long by the time that nobody looked; such a measurement only counts as an upper
    /// bound, which is good enough to join segments and never a reason to cut one.
    fn land(&mut self, gpu: &Gpu, programs: &mut [Option<Program>], flight: &Flight) -> Result<()> {
        let late = gpu.completed(&flight.submission)?;
        if !late {
            gpu.wait(&flight.submission)?;
        }
        let now = Instant::now();
        let micros = now.saturating_duration_since(flight.started.max(self.landed)).as_micros();
        self.landed = now;
        match late {
            true => self.times.unmeasured += 1,
            false => self.times.add(micros),
        }
        if let Some(program) = programs.get_mut(flight.program as usize).and_then(Option::as_mut) {
            program.segments.measure(flight.version, flight.segment, micros, late);
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
