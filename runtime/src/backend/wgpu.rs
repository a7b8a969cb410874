//! The WGSL back end: runs plans on any GPU that wgpu reaches (Vulkan, Metal, DX12).
//!
//! Everything that a run needs is made when a plan is compiled: pipelines, bind groups, one uniform of all parameters. A
//! run writes the step and replays a flat list of dispatches. A slot is one buffer, which programs
//! share, and so is a stored tensor.

mod buffers;
mod device;
mod measure;
mod pipeline;
mod program;
mod read;
mod reduced;
mod replay;
mod segments;
mod tuning;

use std::collections::BTreeMap;
use std::path::PathBuf;

use embassy_time::Duration;
use loam_shaders::Step;

pub use self::device::{Adapter, adapters};
pub use self::pipeline::Checks;

use self::buffers::{Buffers, Slots};
use self::device::Gpu;
use self::pipeline::Pipelines;
use self::program::Program;
use self::read::Reader;
use self::reduced::Replacements;
use self::replay::Flights;
use self::tuning::Tuning;
use super::overhead::{STEP_BYTES, params_bytes};
use super::{Backend, DeviceInfo, Memory, Precision, ProgramId, Reading, Times};
use crate::error::{Error, Result};
use crate::plan::{Entry, Plan, Pool, StorageId};

pub(crate) use self::device::at_once;

/// Runs plans on a GPU.
#[derive(Debug)]
pub struct WgpuBackend {
    gpu: Gpu,
    memory: Memory,
    buffers: Buffers,
    pipelines: Pipelines,
    programs: Vec<Option<Program>>,
    slots: Slots,
    flights: Flights,
    reader: Reader,
    step: ::wgpu::Buffer,
    tuning: Option<Tuning>,
    replacements: Replacements,
}

impl WgpuBackend {
    /// Opens a device with all limits that it has.
    ///
    /// # Errors
    /// If the driver refuses.
    pub async fn open(adapter: Adapter, checks: Checks) -> Result<Self> {
        Self::open_for(adapter, Precision::F32, checks).await
    }

    /// As [`Self::open`], to multiply in `precision`.
    ///
    /// # Errors
    /// If the driver refuses, or the device has no such precision.
    pub async fn open_for(adapter: Adapter, precision: Precision, checks: Checks) -> Result<Self> {
        Self::new(Gpu::open(adapter, precision).await?, checks)
    }

    /// Opens a device with chosen limits, e.g. those of a phone on a desktop.
    ///
    /// # Errors
    /// If the driver refuses, or the adapter has less.
    pub async fn open_limited(adapter: Adapter, limits: ::wgpu::Limits, checks: Checks) -> Result<Self> {
        Self::new(Gpu::open_limited(adapter, limits, Precision::F32).await?, checks)
    }

    fn new(gpu: Gpu, checks: Checks) -> Result<Self> {
        let usage = ::wgpu::BufferUsages::UNIFORM | ::wgpu::BufferUsages::COPY_DST;
        let step = buffers::create(&gpu, "step", STEP_BYTES / 4, usage)?;
        let pipelines = Pipelines::new(&gpu, checks);
        gpu.check("layouts", 0)?;
        let mut memory = Memory::default();
        memory.add(Pool::Inputs, STEP_BYTES);
        Ok(Self {
            gpu,
            memory,
            buffers: Buffers::default(),
            pipelines,
            programs: Vec::new(),
            slots: Slots::default(),
            flights: Flights::new(),
            reader: Reader::default(),
            step,
            tuning: None,
            replacements: Replacements::default(),
        })
    }

    /// Kernels by shape class, as measured so far: see [`Backend::tune`].
    pub fn choices(&self) -> Option<&BTreeMap<String, String>> {
        self.tuning.as_ref().map(Tuning::choices)
    }

    /// Kernels and those in less precision that run in their place: see [`Precision`]. `None` where the device gets every
    /// one wrong.
    pub fn replacements(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        self.replacements.names()
    }

    /// Loses the device on purpose: every later call gives [`Error::DeviceLost`]. For tests of recovery.
    pub fn destroy(&mut self) {
        self.gpu.destroy();
    }

    /// Loses the device on purpose behind `submissions` more submissions. For tests of recovery.
    pub fn destroy_after(&mut self, submissions: u32) {
        self.gpu.destroy_after(submissions);
    }

    async fn read_back(&mut self, id: StorageId, offset: u64, words: u64) -> Result<Vec<u32>> {
        self.gpu.check("read", 0)?;
        let stored = self.buffers.get(&self.gpu, id)?;
        buffers::check_range(&self.gpu, stored, offset, words)?;
        if words == 0 {
            return Ok(Vec::new());
        }
        let source = stored.buffer.clone();
        self.buffers.flush(&self.gpu, &mut self.memory)?;
        if cfg!(not(target_family = "wasm")) {
            self.flights.settle(&self.gpu, &mut self.programs)?;
        }
        self.reader.read(&self.gpu, &mut self.memory, &source, offset, words).await
    }

    fn program(&self, id: ProgramId) -> Result<&Program> {
        let program = self.programs.get(id.0 as usize).and_then(Option::as_ref);
        program.ok_or_else(|| self.gpu.failure(format!("program {} is not compiled", id.0)))
    }
}

impl Backend for WgpuBackend {
    fn info(&self) -> &DeviceInfo {
        &self.gpu.info
    }

    fn provide(&mut self, id: StorageId, entry: &Entry) -> Result<()> {
        self.gpu.check(&entry.name, 0)?;
        self.buffers.provide(&self.gpu, &mut self.memory, id, entry)
    }

    fn release(&mut self, id: StorageId) {
        self.buffers.release(&mut self.memory, id);
    }

    fn write(&mut self, id: StorageId, offset: u64, words: &[u32]) -> Result<()> {
        self.gpu.check("write", 0)?;
        self.buffers.write(&self.gpu, id, offset, words)
    }

    fn read(&mut self, id: StorageId, offset: u64, words: u64) -> Reading<'_> {
        Box::pin(self.read_back(id, offset, words))
    }

    fn compile(&mut self, plan: &Plan) -> Result<ProgramId> {
        self.gpu.check(&plan.name, 0)?;
        self.buffers.flush(&self.gpu, &mut self.memory)?;
        let id = u32::try_from(self.programs.len()).map_err(|_| Error::Argument("too many programs".into()))?;
        let places = self.slots.take(&self.gpu, &mut self.memory, plan)?;
        let (gpu, stored, made) = (&self.gpu, (&self.buffers, &self.slots), (plan, places.clone()));
        let target = self.flights.target.as_micros();
        let mut program = Program::new(gpu, stored, &mut self.pipelines, &self.step, made, target)
            .inspect_err(|_| self.slots.give_back(&mut self.memory, &places))?;
        self.memory.add(Pool::Activations, params_bytes(plan));
        if let Some(tuning) = &mut self.tuning {
            tuning.improve(&self.gpu, &mut self.pipelines, plan, &mut program)?;
        }
        self.replacements.replace(&self.gpu, &mut self.pipelines, plan, &mut program)?;
        self.programs.push(Some(program));
        Ok(ProgramId(id))
    }

    fn discard(&mut self, program: ProgramId) {
        if let Some(old) = self.programs.get_mut(program.0 as usize).and_then(Option::take) {
            self.slots.give_back(&mut self.memory, &old.places);
            self.memory.sub(Pool::Activations, old.free());
        }
    }

    fn run(&mut self, program: ProgramId, step: &Step) -> Result<()> {
        let mut next = self.run_part(program, step, 0)?;
        while let Some(part) = next {
            next = self.run_part(program, step, part)?;
        }
        Ok(())
    }

    fn run_part(&mut self, program: ProgramId, step: &Step, part: usize) -> Result<Option<usize>> {
        self.gpu.check("run", 0)?;
        self.program(program)?;
        if part == 0 {
            self.gpu.queue.write_buffer(&self.step, 0, bytemuck::bytes_of(step));
        }
        self.flights.run(&self.gpu, &mut self.programs, program.0, step, part)
    }

    fn set_target(&mut self, target: Duration) {
        self.flights.target = target;
        self.flights.times = Times::default();
    }

    fn settle(&mut self) -> Result<()> {
        self.flights.settle(&self.gpu, &mut self.programs)
    }

    fn times(&self) -> Option<&Times> {
        Some(&self.flights.times)
    }

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn tune(&mut self, folder: Option<PathBuf>) {
        self.tuning = Some(Tuning::new(&self.gpu, folder));
    }
}
