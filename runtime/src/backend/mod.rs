//! Back ends: what runs a plan.
//!
//! The trait is small on purpose: allocate stored buffers, write, read, compile a plan, run a program. All back ends
//! run the same plans: [`cpu`] with host functions over the mapped file, `wgpu` with WGSL on any GPU. What is chosen
//! once, precision and the length of submissions, is chosen when a device is opened ([`Options`]). Which of several
//! kernels runs is decided above the trait, in [`choice`], so that every back end gets it.

pub mod choice;
pub mod cpu;
mod overhead;
mod provider;
mod rehearsal;
pub mod select;
pub(crate) mod slots;
mod times;
mod usage;
#[cfg(feature = "wgpu")]
pub mod wgpu;

pub use provider::{Device, Provider};
pub use rehearsal::Rehearsal;
pub use usage::{Memory, Usage};

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use embassy_time::Duration;
use loam_shaders::{Need, Step};

pub use self::times::Times;
use crate::error::Result;
use crate::plan::{Entry, Plan, StorageId};
pub use loam_shaders::Precision;

/// What kind of processor a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The CPU back end.
    Cpu,
    /// A GPU with its own memory.
    DiscreteGpu,
    /// A GPU that shares the CPU's memory.
    IntegratedGpu,
    /// A GPU of a virtual machine.
    VirtualGpu,
    /// A software rasteriser such as llvmpipe: never chosen by `auto`.
    Software,
    /// Not known.
    Other,
}

impl Kind {
    /// Whether what is on the device is in the host's memory.
    pub fn shares_host(self) -> bool {
        matches!(self, Kind::Cpu | Kind::Software | Kind::IntegratedGpu)
    }

    /// Whether `auto` and `gpu` may take it. Unknown devices can still be named.
    pub fn is_real_gpu(self) -> bool {
        matches!(self, Kind::DiscreteGpu | Kind::IntegratedGpu | Kind::VirtualGpu)
    }
}

/// A device as `loam devices` lists it.
#[derive(Debug, Clone)]
pub struct DeviceInfo {
    /// Name, e.g. `NVIDIA H200` or `cpu`.
    pub name: String,
    /// `cpu`, `vulkan`, `metal`, `dx12`, `gl`.
    pub backend: String,
    /// What it is.
    pub kind: Kind,
    /// Features that loam uses on it, e.g. `avx2`; `f16` and `cooperative-matrix-16` with [`Precision::F16`].
    pub features: Vec<String>,
    /// What kernels can ask of it beyond the baseline.
    pub offers: Vec<Need>,
    /// What it can multiply in.
    pub precisions: Vec<Precision>,
    /// Driver name and version.
    pub driver: String,
    /// What plans must respect.
    pub limits: Limits,
    /// What an opened device multiplies in.
    pub precision: Precision,
    /// Size of the memory that is the device's own, where the driver says. Others may use it too.
    pub memory_bytes: Option<u64>,
    /// Nothing is really allocated: the back end only counts ([`Rehearsal`]).
    pub rehearsed: bool,
}

/// Limits that a plan must respect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest range of a buffer that one binding can see, in bytes. Weights over it are split by rows.
    pub max_binding_bytes: u64,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
}

/// Names a compiled plan within its back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(pub u32);

/// Longest time of one submission unless [`Options::target`] says otherwise. Operating systems reset a GPU whose
/// work does not end (Windows after two seconds, phones earlier), and a busy queue delays everything else.
pub const TARGET: Duration = Duration::from_millis(50);

/// Whether kernels are chosen by measurement. Only the speed depends on it: all choices compute the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tuning {
    /// Plans run as they were recorded.
    #[default]
    Off,
    /// On real GPUs, and not on software rasterisers.
    RealGpus,
    /// On every device that has a choice.
    Always,
}

/// What is settled when a device is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What products are multiplied in.
    pub precision: Precision,
    /// Whether kernels are chosen by measurement, once per device, driver and shape.
    pub tuning: Tuning,
    /// Where choices are kept for the next process, if they are.
    pub tuning_folder: Option<PathBuf>,
    /// How long one submission should take at most, as far as its kernels allow. Below [`TARGET`] none is queued while
    /// another runs, so that what a user looks at can be drawn in between: 8 ms for that.
    pub target: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { precision: Precision::F32, tuning: Tuning::Off, tuning_folder: None, target: TARGET }
    }
}

/// What takes its time. A browser cannot block, so that whatever waits for the device is a future; where there are
/// threads, it can be sent to another.
#[cfg(not(target_family = "wasm"))]
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;
/// What takes its time. A browser cannot block, so that whatever waits for the device is a future.
#[cfg(target_family = "wasm")]
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// [`Send`] where devices can be used from several threads: not in browsers.
#[cfg(not(target_family = "wasm"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_family = "wasm"))]
impl<T: Send + ?Sized> MaybeSend for T {}
/// Nothing: in browsers a device stays on its thread.
#[cfg(target_family = "wasm")]
pub trait MaybeSend {}
#[cfg(target_family = "wasm")]
impl<T: ?Sized> MaybeSend for T {}

/// What runs plans. Calls are in order: a `read` sees every `run` and `write` before it.
pub trait Backend: MaybeSend {
    /// The device.
    fn info(&self) -> &DeviceInfo;

    /// Memory and time used so far.
    fn usage(&self) -> &Usage;

    /// Allocates the stored buffer `id` and fills it with its content. What it held before is freed.
    ///
    /// # Errors
    /// Out of memory, or over a limit of the device.
    fn allocate<'a>(&'a mut self, id: StorageId, entry: &'a Entry) -> Pending<'a, ()>;

    /// Frees a stored buffer. Programs that bind it must not run any more.
    fn release(&mut self, id: StorageId);

    /// Overwrites words of a stored buffer (not of a weight).
    ///
    /// # Errors
    /// If the range is outside the buffer, or the device failed.
    fn write(&mut self, id: StorageId, offset: u64, words: &[u32]) -> Result<()>;

    /// Reads words of a stored buffer back.
    ///
    /// # Errors
    /// If the range is outside the buffer, or the device failed.
    fn read(&mut self, id: StorageId, offset: u64, words: u64) -> Pending<'_, Vec<u32>>;

    /// Makes a plan ready to run: slots, pipelines, bind groups. Every stored buffer it names must be allocated.
    /// Programs share the memory of their slots, so the largest one is best compiled first.
    ///
    /// # Errors
    /// Out of memory, or a kernel that the device refuses.
    fn compile<'a>(&'a mut self, plan: &'a Plan) -> Pending<'a, ProgramId>;

    /// Frees a program, and its slots that no other program uses.
    fn discard(&mut self, program: ProgramId);

    /// Runs the part of a program that begins at `part` (0 first), for about as long as [`Options::target`] says, and
    /// returns where the next part begins; `None` at the end. Nothing else may run between the parts of a program. On a
    /// GPU this returns when the work is submitted. [`run`] runs all parts.
    ///
    /// # Errors
    /// If the device failed.
    fn run(&mut self, program: ProgramId, step: &Step, part: usize) -> Result<Option<usize>>;

    /// Waits until the device has nothing to do.
    ///
    /// # Errors
    /// If the device failed.
    fn settle(&mut self) -> Pending<'_, ()>;
}

/// Runs all parts of a program.
///
/// # Errors
/// As [`Backend::run`].
pub fn run(backend: &mut dyn Backend, program: ProgramId, step: &Step) -> Result<()> {
    let mut next = backend.run(program, step, 0)?;
    while let Some(part) = next {
        next = backend.run(program, step, part)?;
    }
    Ok(())
}
