//! Adapters and the opened device: limits, errors, waiting.
//!
//! wgpu reports errors in two ways: through the uncaptured-error handler, and, when the device is gone, through the
//! lost callback. Both only note what happened in [`Faults`]; [`Gpu::check`] turns that into a typed error after each
//! operation. Error scopes would say the same on native targets, but the browser answers them after the operation
//! has returned, and a noted fault is then still reported by the next call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::wgpu as api;

use super::answer::Answer;
use super::half::Half;
use crate::backend::select::has_not;
use crate::backend::{DeviceInfo, Kind, Limits, Precision};
use crate::error::{Error, Result};
use crate::problem::DeviceProblem;

/// Longest wait for one submission. Submissions take tens of milliseconds; a device that needs minutes hangs.
const WAIT_LIMIT: Duration = Duration::from_secs(300);

/// A physical device that can be opened.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// What `loam devices` lists.
    pub info: DeviceInfo,
    adapter: api::Adapter,
}

/// All devices that wgpu can reach, real GPUs first (discrete, integrated, virtual), software rasterisers last.
///
/// A device that two drivers or two graphics interfaces offer is listed once, by the first that has it: Vulkan,
/// then Metal, then DX12.
pub async fn adapters() -> Vec<Adapter> {
    let backends = api::Backends::VULKAN | api::Backends::METAL | api::Backends::DX12;
    if !api::Instance::enabled_backend_features().intersects(backends) {
        return Vec::new();
    }
    let mut descriptor = api::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    descriptor.flags = api::InstanceFlags::empty();
    let instance = api::Instance::new(descriptor);
    let mut found = instance.enumerate_adapters(backends).await;
    found.sort_by_key(|adapter| interface_rank(adapter.get_info().backend));
    let mut seen: Vec<api::AdapterInfo> = Vec::new();
    let mut listed = Vec::new();
    for adapter in found {
        let info = adapter.get_info();
        if !seen.iter().any(|other| same_device(other, &info)) {
            listed.push(Adapter { info: describe(&info, &adapter), adapter });
            seen.push(info);
        }
    }
    listed.sort_by_key(|adapter| kind_rank(adapter.info.kind));
    listed
}

fn interface_rank(backend: api::Backend) -> usize {
    let order = [api::Backend::Vulkan, api::Backend::Metal, api::Backend::Dx12];
    order.iter().position(|&b| b == backend).unwrap_or(order.len())
}

fn kind_rank(kind: Kind) -> usize {
    let order = [Kind::DiscreteGpu, Kind::IntegratedGpu, Kind::VirtualGpu, Kind::Other, Kind::Software];
    order.iter().position(|&k| k == kind).unwrap_or(order.len())
}

/// Whether two adapters are one physical device. The bus address decides where both have one; two interfaces without
/// it (Metal, software) are compared by identity, while one interface never lists a device twice without a bus address.
fn same_device(a: &api::AdapterInfo, b: &api::AdapterInfo) -> bool {
    if !a.device_pci_bus_id.is_empty() && !b.device_pci_bus_id.is_empty() {
        return a.device_pci_bus_id == b.device_pci_bus_id;
    }
    a.backend != b.backend && (a.vendor, a.device, &a.name) == (b.vendor, b.device, &b.name)
}

fn describe(info: &api::AdapterInfo, adapter: &api::Adapter) -> DeviceInfo {
    let half = Half::detect(adapter);
    DeviceInfo {
        name: info.name.clone(),
        backend: info.backend.to_str().into(),
        kind: match info.device_type {
            api::DeviceType::DiscreteGpu => Kind::DiscreteGpu,
            api::DeviceType::IntegratedGpu => Kind::IntegratedGpu,
            api::DeviceType::VirtualGpu => Kind::VirtualGpu,
            api::DeviceType::Cpu => Kind::Software,
            api::DeviceType::Other => Kind::Other,
        },
        // With single precision the kernels are baseline WGSL, and nothing optional is requested.
        features: half.map_or_else(Vec::new, Half::names),
        offers: half.map_or_else(Vec::new, Half::offers),
        precisions: [Precision::F32, Precision::Int8].into_iter().chain(half.map(|_| Precision::F16)).collect(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().into(),
        limits: plan_limits(&adapter.limits()),
        precision: Precision::F32,
        memory_bytes: memory_bytes(adapter),
        rehearsed: false,
    }
}

/// The largest heap of memory that is the device's own, where Vulkan tells. The other interfaces do not through wgpu.
#[cfg(any(windows, target_os = "linux", target_os = "android"))]
fn memory_bytes(adapter: &api::Adapter) -> Option<u64> {
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the adapter is only asked for properties, and outlives the guard.
    let adapter = unsafe { adapter.as_hal::<api::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: the physical device is one of this instance; both live as long as the adapter.
    let memory = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

/// Not known.
#[cfg(not(any(windows, target_os = "linux", target_os = "android")))]
fn memory_bytes(_adapter: &api::Adapter) -> Option<u64> {
    None
}

/// What plans must respect, in whole binding alignments (some drivers report 2^31 - 1).
fn plan_limits(limits: &api::Limits) -> Limits {
    let buffer = limits.max_buffer_size & !255;
    Limits { max_binding_bytes: (limits.max_storage_buffer_binding_size & !255).min(buffer), max_buffer_bytes: buffer }
}

/// What went wrong since the last check.
#[derive(Debug, Default)]
struct Faults {
    lost: Option<String>,
    error: Option<api::Error>,
}

/// An opened device and its queue.
#[derive(Debug)]
pub struct Gpu {
    /// Creates resources.
    pub device: api::Device,
    /// Takes submissions.
    pub queue: api::Queue,
    /// What was opened. Its limits are the requested ones.
    pub info: DeviceInfo,
    /// What it has for half precision, if it was opened for that.
    pub half: Option<Half>,
    faults: Arc<Mutex<Faults>>,
    /// Submissions until the device is lost on purpose; negative: never.
    submissions_left: AtomicI64,
}

impl Gpu {
    /// Opens a device with all limits its adapter has, and with the optional features that `precision` asks for.
    ///
    /// # Errors
    /// If the driver refuses, or the device has no such precision.
    pub async fn open(adapter: Adapter, precision: Precision) -> Result<Self> {
        let limits = adapter.adapter.limits();
        Self::open_limited(adapter, limits, precision).await
    }

    /// Opens a device with chosen limits, e.g. WebGPU's defaults on a device that has more.
    ///
    /// # Errors
    /// As [`Self::open`], or if the limits are over the adapter's.
    pub async fn open_limited(adapter: Adapter, limits: api::Limits, precision: Precision) -> Result<Self> {
        let Adapter { mut info, adapter } = adapter;
        info.limits = plan_limits(&limits);
        info.precision = precision;
        let half = match precision {
            Precision::F32 | Precision::Int8 => None,
            Precision::F16 => Some(Half::detect(&adapter).ok_or_else(|| has_not(&info.name, precision))?),
        };
        info.offers = half.map_or_else(Vec::new, Half::offers);
        let descriptor = api::DeviceDescriptor {
            label: Some("loam"),
            required_features: half.map_or(api::Features::empty(), Half::features),
            required_limits: limits,
            experimental_features: half.map_or(api::ExperimentalFeatures::disabled(), Half::experimental),
            // Weights are large buffers of their own; big blocks for small buffers would only add to the footprint.
            memory_hints: api::MemoryHints::MemoryUsage,
            trace: api::Trace::Off,
        };
        let opened = adapter.request_device(&descriptor).await;
        let (device, queue) =
            opened.map_err(|error| Error::Device { device: info.name.clone(), problem: error.to_string().into() })?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        let noted = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error| {
            lock(&noted).error.get_or_insert(error);
        }));
        let noted = Arc::clone(&faults);
        device.set_device_lost_callback(move |cause, message| {
            let message = if message.is_empty() { format!("{cause:?}").to_lowercase() } else { message };
            lock(&noted).lost.get_or_insert(message);
        });
        Ok(Self { device, queue, info, half, faults, submissions_left: AtomicI64::new(-1) })
    }

    /// An [`Error::Device`] of this device.
    pub fn failure(&self, problem: impl Into<DeviceProblem>) -> Error {
        Error::Device { device: self.info.name.clone(), problem: problem.into() }
    }

    /// Reports what went wrong since the last check, if anything: loss first, because everything fails after it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::OutOfMemory`] (with `what` and `bytes`) or [`Error::Device`].
    pub fn check(&self, what: &str, bytes: u64) -> Result<()> {
        let mut faults = lock(&self.faults);
        let device = || self.info.name.clone();
        if let Some(reason) = &faults.lost {
            return Err(Error::DeviceLost { device: device(), reason: reason.clone() });
        }
        match faults.error.take() {
            None => Ok(()),
            Some(api::Error::OutOfMemory { .. }) => {
                Err(Error::OutOfMemory { device: device(), what: what.into(), bytes })
            }
            Some(error) => Err(Error::Device { device: device(), problem: format!("{what}: {error}").into() }),
        }
    }

    /// Whether `submission` has completed; never blocks.
    ///
    /// # Errors
    /// If the device failed.
    pub fn completed(&self, submission: &api::SubmissionIndex) -> Result<bool> {
        self.poll(wait_for(submission, Duration::ZERO))
    }

    /// Blocks until `submission` has completed; its map callbacks have run then.
    ///
    /// # Errors
    /// If the device failed, or made no progress for minutes.
    pub fn wait(&self, submission: &api::SubmissionIndex) -> Result<()> {
        if self.poll(wait_for(submission, WAIT_LIMIT))? {
            return Ok(());
        }
        Err(self.failure(format!("no answer for {} seconds", WAIT_LIMIT.as_secs())))
    }

    /// Waits until everything that was submitted has completed. In a browser nothing can block, so that this is a
    /// future.
    ///
    /// # Errors
    /// If the device failed.
    pub async fn idle(&self) -> Result<()> {
        let submission = self.submit([]);
        if cfg!(not(target_family = "wasm")) {
            return self.wait(&submission);
        }
        let answer = Answer::default();
        let given = answer.clone();
        self.queue.on_submitted_work_done(move || given.give(()));
        answer.await;
        self.check("device", 0)
    }

    /// `Device::poll`, which panics in wgpu 30 when the wait itself finds the device lost.
    fn poll(&self, poll: api::PollType) -> Result<bool> {
        self.check("device", 0)?;
        let done = match catch_unwind(AssertUnwindSafe(|| self.device.poll(poll))) {
            Ok(Ok(_)) => true,
            Ok(Err(api::PollError::Timeout)) => false,
            Ok(Err(error)) => return self.check("device", 0).and(Err(self.failure(error.to_string()))),
            Err(_) => {
                lock(&self.faults).lost.get_or_insert_with(|| "the driver gave up waiting".into());
                false
            }
        };
        self.check("device", 0).map(|()| done)
    }

    /// Hands commands to the device.
    pub fn submit(&self, commands: impl IntoIterator<Item = api::CommandBuffer>) -> api::SubmissionIndex {
        let submission = self.queue.submit(commands);
        if self.submissions_left.load(Ordering::Relaxed) >= 0
            && self.submissions_left.fetch_sub(1, Ordering::Relaxed) <= 1
        {
            self.destroy();
        }
        submission
    }

    /// Loses the device on purpose after `submissions` more submissions.
    pub fn destroy_after(&self, submissions: u32) {
        self.submissions_left.store(submissions.into(), Ordering::Relaxed);
    }

    /// Loses the device on purpose. Every later call gives [`Error::DeviceLost`].
    pub fn destroy(&self) {
        self.device.destroy();
        lock(&self.faults).lost.get_or_insert_with(|| "destroyed".into());
    }
}

fn wait_for(submission: &api::SubmissionIndex, timeout: Duration) -> api::PollType {
    api::PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(timeout) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
