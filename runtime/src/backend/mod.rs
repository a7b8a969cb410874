//! Back ends: what runs a plan.
//!
//! The trait is small on purpose: provide stored buffers, write, read, compile a plan, run a program. Both back ends
//! run the same plans: [`cpu`] with host functions over the mapped file, `wgpu` with WGSL on any GPU.

pub mod cpu;
mod overhead;
mod rehearsal;
pub mod select;
pub(crate) mod slots;
mod times;
#[cfg(feature = "wgpu")]
pub mod wgpu;

pub use rehearsal::Rehearsal;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use embassy_time::Duration;
use loam_shaders::Step;

pub use self::times::Times;
use crate::error::Result;
use crate::plan::{Entry, Plan, Pool, StorageId};
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
    /// Driver name and version.
    pub driver: String,
    /// What plans must respect.
    pub limits: Limits,
    /// What an opened device multiplies in.
    pub precision: Precision,
    /// Size of the memory that is the device's own, where the driver says. Others may use it too.
    pub memory_bytes: Option<u64>,
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

/// Device memory by pool, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Allocated now.
    pub current: std::collections::BTreeMap<Pool, u64>,
    /// Largest sum over all pools so far.
    pub peak_bytes: u64,
}

impl Memory {
    /// Counts an allocation.
    pub fn add(&mut self, pool: Pool, bytes: u64) {
        let entry = self.current.entry(pool).or_default();
        *entry = entry.saturating_add(bytes);
        self.peak_bytes = self.peak_bytes.max(self.current_bytes());
    }

    /// Sum over all pools.
    pub fn current_bytes(&self) -> u64 {
        self.current.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// What of it is the host's memory on a device of `kind`. The CPU's weights are not: they are where the file is mapped.
    pub fn on_host(&self, kind: Kind) -> u64 {
        let pool = |pool| self.current.get(&pool).copied().unwrap_or(0);
        match kind {
            Kind::Cpu => self.current_bytes() - pool(Pool::Weights),
            kind if kind.shares_host() => self.current_bytes(),
            _ => pool(Pool::Staging),
        }
    }

    /// Counts a release.
    pub fn sub(&mut self, pool: Pool, bytes: u64) {
        let entry = self.current.entry(pool).or_default();
        *entry = entry.saturating_sub(bytes);
    }
}

/// Longest time of one submission unless [`Backend::set_target`] says otherwise. Operating systems reset a GPU whose
/// work does not end (Windows after two seconds, phones earlier), and a busy queue delays everything else.
pub const TARGET: Duration = Duration::from_millis(50);

/// Words on their way back from the device. The browser cannot block, so reading is a future everywhere.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Vec<u32>>> + 'a>>;

/// Types that other threads may own, where there are threads: a browser's handles stay where they were made.
#[cfg(not(target_family = "wasm"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_family = "wasm"))]
impl<T: Send + ?Sized> MaybeSend for T {}
/// Types that other threads may own, where there are threads: a browser's handles stay where they were made.
#[cfg(target_family = "wasm")]
pub trait MaybeSend {}
#[cfg(target_family = "wasm")]
impl<T: ?Sized> MaybeSend for T {}

/// What runs plans. Calls are in order: a `read` sees every `run` and `write` before it.
pub trait Backend: MaybeSend {
    /// The device.
    fn info(&self) -> &DeviceInfo;

    /// Whether memory is really taken: not by a [`Rehearsal`].
    fn allocates(&self) -> bool {
        true
    }

    /// Allocates the stored buffer `id` and fills it with its content.
    ///
    /// # Errors
    /// Out of memory, or over a limit of the device.
    fn provide(&mut self, id: StorageId, entry: &Entry) -> Result<()>;

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
    fn read(&mut self, id: StorageId, offset: u64, words: u64) -> Reading<'_>;

    /// Makes a plan ready to run: slots, pipelines, bind groups. Every stored buffer it names must be provided. Programs
    /// share the memory of their slots, so the largest one is best compiled first.
    ///
    /// # Errors
    /// Out of memory, or a kernel that the device refuses.
    fn compile(&mut self, plan: &Plan) -> Result<ProgramId>;

    /// Frees a program, and its slots that no other program uses.
    fn discard(&mut self, program: ProgramId);

    /// Runs a program once. On a GPU this returns when the work is submitted.
    ///
    /// # Errors
    /// If the device failed.
    fn run(&mut self, program: ProgramId, step: &Step) -> Result<()>;

    /// Runs the part of a program that begins at `part` (0 first), for about as long as [`Self::set_target`] says, and
    /// returns where the next part begins; `None` behind the last. Nothing else may run between the parts of a program.
    /// A back end that knows no parts runs everything.
    ///
    /// # Errors
    /// If the device failed.
    fn run_part(&mut self, program: ProgramId, step: &Step, part: usize) -> Result<Option<usize>> {
        debug_assert_eq!(part, 0, "there is one part");
        self.run(program, step).map(|()| None)
    }

    /// How long one submission should take at most. Below [`TARGET`] no second one is queued behind it, so that others
    /// can use the device in between. Set it before programs are compiled. [`Self::times`] starts again.
    fn set_target(&mut self, _target: Duration) {}

    /// Waits until the device has nothing to do.
    ///
    /// # Errors
    /// If the device failed.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// How long the submissions took since the target was set, where that is measured.
    fn times(&self) -> Option<&Times> {
        None
    }

    /// Memory in use and its peak.
    fn memory(&self) -> &Memory;

    /// From now on, plans are compiled with the fastest of kernels that compute the same bits, measured once per device,
    /// driver and shape and kept in `folder`. Without this call plans run as they were recorded; a back end that has
    /// no choice ignores it.
    fn tune(&mut self, _folder: Option<PathBuf>) {}
}
