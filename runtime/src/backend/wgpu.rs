//! The WGSL back end: runs plans on any GPU that wgpu reaches (Vulkan, Metal, DX12).
//!
//! Everything that a run needs is made when a plan is compiled: pipelines, bind groups, one uniform of all parameters.
//! A run writes the step and replays a flat list of dispatches. A slot is one buffer, which programs share, and so is a
//! stored tensor.

mod answer;
mod buffers;
mod device;
mod half;
mod nodes;
mod pipeline;
mod program;
mod read;
mod replay;
mod segments;

use loam_shaders::Step;

pub use self::device::{Adapter, adapters};
pub use self::pipeline::Checks;

use self::buffers::{Buffers, Slots};
use self::device::Gpu;
use self::pipeline::Pipelines;
use self::program::Program;
use self::read::Reader;
use self::replay::{InFlight, Run};
use super::overhead::{STEP_BYTES, params_bytes};
use super::{Backend, Device, DeviceInfo, Options, Pending, Precision, ProgramId, Provider, Usage};
use crate::error::{Error, Result};
use crate::plan::{Entry, Plan, Pool, StorageId};

/// GPUs that wgpu reaches.
pub static PROVIDER: Provider =
    Provider { name: "wgpu", may_have_gpu: Some(nodes::may_have_gpu), devices: || Box::pin(devices()) };

async fn devices() -> Result<Vec<Device>> {
    let open = |adapter: Adapter| Device {
        info: adapter.info.clone(),
        open: Box::new(|options| Box::pin(open(adapter, options))),
    };
    Ok(adapters().await.into_iter().map(open).collect())
}

async fn open(adapter: Adapter, options: Options) -> Result<Box<dyn Backend>> {
    Ok(Box::new(WgpuBackend::open(adapter, &options, Checks::default()).await?))
}

/// Runs plans on a GPU.
#[derive(Debug)]
pub struct WgpuBackend {
    gpu: Gpu,
    usage: Usage,
    buffers: Buffers,
    pipelines: Pipelines,
    programs: Vec<Option<Program>>,
    slots: Slots,
    in_flight: InFlight,
    reader: Reader,
    step: ::wgpu::Buffer,
}

impl WgpuBackend {
    /// Opens a device with all limits that it has. Of `options` it takes precision and target; kernels are chosen above
    /// it ([`super::choice`]).
    ///
    /// # Errors
    /// If the driver refuses, or the device has no such precision.
    pub async fn open(adapter: Adapter, options: &Options, checks: Checks) -> Result<Self> {
        Self::new(Gpu::open(adapter, options.precision).await?, options, checks)
    }

    /// Opens a device with chosen limits, e.g. those of a phone on a desktop.
    ///
    /// # Errors
    /// If the driver refuses, or the adapter has less.
    pub async fn open_limited(adapter: Adapter, limits: ::wgpu::Limits, checks: Checks) -> Result<Self> {
        Self::new(Gpu::open_limited(adapter, limits, Precision::F32).await?, &Options::default(), checks)
    }

    fn new(gpu: Gpu, options: &Options, checks: Checks) -> Result<Self> {
        let usage = ::wgpu::BufferUsages::UNIFORM | ::wgpu::BufferUsages::COPY_DST;
        let step = buffers::create(&gpu, "step", STEP_BYTES / 4, usage)?;
        let pipelines = Pipelines::new(&gpu, checks);
        gpu.check("layouts", 0)?;
        let mut usage = Usage::default();
        usage.memory.add(Pool::Inputs, STEP_BYTES);
        Ok(Self {
            gpu,
            usage,
            buffers: Buffers::default(),
            pipelines,
            programs: Vec::new(),
            slots: Slots::default(),
            in_flight: InFlight::new(options.target),
            reader: Reader::default(),
            step,
        })
    }

    /// Loses the device on purpose: every later call gives [`Error::DeviceLost`]. For tests of recovery.
    pub fn destroy(&mut self) {
        self.gpu.destroy();
    }

    /// Loses the device on purpose after `submissions` more submissions. For tests of recovery.
    pub fn destroy_after(&mut self, submissions: u32) {
        self.gpu.destroy_after(submissions);
    }

    async fn store(&mut self, id: StorageId, entry: &Entry) -> Result<()> {
        self.gpu.check(&entry.name, 0)?;
        self.buffers.allocate(&self.gpu, &mut self.usage.memory, id, entry).await
    }

    async fn read_back(&mut self, id: StorageId, offset: u64, words: u64) -> Result<Vec<u32>> {
        self.gpu.check("read", 0)?;
        let stored = self.buffers.get(&self.gpu, id)?;
        buffers::check_range(&self.gpu, stored, offset, words)?;
        if words == 0 {
            return Ok(Vec::new());
        }
        let source = stored.buffer.clone();
        self.buffers.flush(&self.gpu, &mut self.usage.memory).await?;
        if cfg!(not(target_family = "wasm")) {
            self.in_flight.settle(&self.gpu, &mut self.programs, &mut self.usage.times)?;
        }
        self.reader.read(&self.gpu, &mut self.usage.memory, &source, offset, words).await
    }

    async fn add_program(&mut self, plan: &Plan) -> Result<ProgramId> {
        self.gpu.check(&plan.name, 0)?;
        self.buffers.flush(&self.gpu, &mut self.usage.memory).await?;
        let id = u32::try_from(self.programs.len()).map_err(|_| Error::Argument("too many programs".into()))?;
        let memory = &mut self.usage.memory;
        let places = self.slots.take(&self.gpu, memory, plan)?;
        let (gpu, stored, made) = (&self.gpu, (&self.buffers, &self.slots), (plan, places.clone()));
        let target = self.in_flight.target.as_micros();
        let program = Program::new(gpu, stored, &mut self.pipelines, &self.step, made, target)
            .inspect_err(|_| self.slots.give_back(memory, &places))?;
        memory.add(Pool::Activations, params_bytes(plan));
        self.programs.push(Some(program));
        Ok(ProgramId(id))
    }

    async fn wait(&mut self) -> Result<()> {
        match cfg!(target_family = "wasm") {
            true => self.gpu.idle().await,
            false => self.in_flight.settle(&self.gpu, &mut self.programs, &mut self.usage.times),
        }
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

    fn usage(&self) -> &Usage {
        &self.usage
    }

    fn allocate<'a>(&'a mut self, id: StorageId, entry: &'a Entry) -> Pending<'a, ()> {
        Box::pin(self.store(id, entry))
    }

    fn release(&mut self, id: StorageId) {
        self.buffers.release(&mut self.usage.memory, id);
    }

    fn write(&mut self, id: StorageId, offset: u64, words: &[u32]) -> Result<()> {
        self.gpu.check("write", 0)?;
        self.buffers.write(&self.gpu, id, offset, words)
    }

    fn read(&mut self, id: StorageId, offset: u64, words: u64) -> Pending<'_, Vec<u32>> {
        Box::pin(self.read_back(id, offset, words))
    }

    fn compile<'a>(&'a mut self, plan: &'a Plan) -> Pending<'a, ProgramId> {
        Box::pin(self.add_program(plan))
    }

    fn discard(&mut self, program: ProgramId) {
        if let Some(old) = self.programs.get_mut(program.0 as usize).and_then(Option::take) {
            self.slots.give_back(&mut self.usage.memory, &old.places);
            self.usage.memory.sub(Pool::Activations, old.free());
        }
    }

    fn run(&mut self, program: ProgramId, step: &Step, part: usize) -> Result<Option<usize>> {
        self.gpu.check("run", 0)?;
        self.program(program)?;
        if part == 0 {
            self.gpu.queue.write_buffer(&self.step, 0, bytemuck::bytes_of(step));
        }
        let run = Run { program: program.0, step, segment: part };
        self.in_flight.run(&self.gpu, &mut self.programs, &mut self.usage.times, run)
    }

    fn settle(&mut self) -> Pending<'_, ()> {
        Box::pin(self.wait())
    }
}
