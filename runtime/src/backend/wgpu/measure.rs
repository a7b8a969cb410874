//! One dispatch of a compiled program, run by itself: what it writes, and how long it takes.

use ::wgpu as api;
use embassy_time::Instant;
use loam_shaders::Access;

use super::device::{Gpu, at_once};
use super::program::{Dispatch, Program};
use super::read::Reader;
use crate::backend::Memory;
use crate::error::Result;
use crate::plan::{Location, Plan, View};
use crate::random;

/// A measurement takes at least this long, so that the clock and the submission do not count.
const LONG_ENOUGH: f64 = 2e-3;
/// Measurements, of which the shortest counts.
const ROUNDS: usize = 3;
/// Most dispatches of a measurement.
const MOST: u32 = 256;
/// Random inputs repeat after so many values, a prime: no two rows of a product are the same.
const PERIOD: u64 = 8209;

/// A dispatch, its inputs and its output.
pub struct Bench<'a> {
    program: &'a Program,
    dispatch: &'a Dispatch,
    inputs: Vec<(&'a api::Buffer, View)>,
    output: (&'a api::Buffer, View),
}

impl<'a> Bench<'a> {
    /// Node `index` of `plan`, if it reads temporaries and stored buffers and writes one temporary: stored buffers that
    /// are written are somebody's, temporaries are nobody's before the first run.
    pub fn new(plan: &Plan, program: &'a Program, index: usize) -> Option<Self> {
        let node = &plan.nodes[index];
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for (view, binding) in node.operands.iter().zip(node.call.kernel.source.bindings) {
            match (binding.access, view.location) {
                (Access::Read, Location::Slot(slot)) => inputs.push((program.slot(slot), *view)),
                (Access::Read, Location::Stored(_)) => {}
                (Access::ReadWrite, Location::Slot(slot)) => outputs.push((program.slot(slot), *view)),
                (Access::ReadWrite, Location::Stored(_)) => return None,
            }
        }
        let [output] = outputs[..] else { return None };
        Some(Self { program, dispatch: &program.dispatches[index], inputs, output })
    }

    /// What `pipeline` writes for the same random inputs each time, its output being zeros before.
    ///
    /// # Errors
    /// If the device failed.
    pub fn output(&self, gpu: &Gpu, pipeline: &api::ComputePipeline, grid: [u32; 3]) -> Result<Vec<u32>> {
        for (number, (buffer, view)) in self.inputs.iter().enumerate() {
            let value = |at: u64| (random::uniform(number as u64, 0, at) * 2.0 - 1.0) as f32;
            let period: Vec<f32> = (0..PERIOD).map(value).collect();
            let values: Vec<f32> = period.iter().copied().cycle().take(view.words as usize).collect();
            gpu.queue.write_buffer(buffer, view.offset * 4, bytemuck::cast_slice(&values));
        }
        let (buffer, view) = self.output;
        let mut encoder = gpu.device.create_command_encoder(&api::CommandEncoderDescriptor { label: Some("compare") });
        encoder.clear_buffer(buffer, view.offset * 4, Some(view.words * 4));
        self.encode(&mut encoder, pipeline, grid, 1);
        gpu.submit([encoder.finish()]);
        gpu.check("compare", view.words * 4)?;
        let (mut reader, mut memory) = (Reader::default(), Memory::default());
        let read = at_once(reader.read(gpu, &mut memory, buffer, view.offset, view.words));
        read.unwrap_or_else(|| Err(gpu.failure("it does not answer")))
    }

    /// Seconds per dispatch of `pipeline`: the best of some rounds.
    ///
    /// # Errors
    /// If the device failed.
    pub fn seconds(&self, gpu: &Gpu, pipeline: &api::ComputePipeline, grid: [u32; 3]) -> Result<f64> {
        let mut times = 1;
        let mut seconds = self.run(gpu, pipeline, grid, times)?;
        while seconds < LONG_ENOUGH && times < MOST {
            times *= 2;
            seconds = self.run(gpu, pipeline, grid, times)?;
        }
        for _ in 1..ROUNDS {
            seconds = seconds.min(self.run(gpu, pipeline, grid, times)?);
        }
        Ok(seconds / f64::from(times))
    }

    /// Seconds of `times` dispatches.
    fn run(&self, gpu: &Gpu, pipeline: &api::ComputePipeline, grid: [u32; 3], times: u32) -> Result<f64> {
        let mut encoder = gpu.device.create_command_encoder(&api::CommandEncoderDescriptor { label: Some("measure") });
        self.encode(&mut encoder, pipeline, grid, times);
        let began = Instant::now();
        let submission = gpu.submit([encoder.finish()]);
        gpu.check("measure", 0)?;
        gpu.wait(&submission)?;
        Ok(began.elapsed().as_micros() as f64 / 1e6)
    }

    fn encode(&self, encoder: &mut api::CommandEncoder, pipeline: &api::ComputePipeline, grid: [u32; 3], times: u32) {
        let mut pass = encoder.begin_compute_pass(&api::ComputePassDescriptor::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &self.dispatch.operands, &[]);
        pass.set_bind_group(1, &self.program.uniforms, &[self.dispatch.params]);
        for _ in 0..times {
            pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
        }
    }
}
