//! Which device to use: `auto`, `cpu`, `gpu`, `gpu:N`, or part of a name in the list of devices.

use std::sync::atomic::{AtomicBool, Ordering};

use super::cpu::{self, CpuBackend};
use super::{Backend, DeviceInfo, Kind, Precision};
use crate::error::{Error, Result};
use crate::problem::DeviceProblem;

#[cfg(feature = "wgpu")]
use super::wgpu::{Adapter, Checks, WgpuBackend, adapters, at_once};

/// All devices: GPUs in the order of `gpu:N`, real ones before software rasterisers, then the CPU.
pub fn devices() -> Vec<DeviceInfo> {
    let mut all = infos(&gpus());
    all.push(cpu::info());
    all
}

/// Whether this process has loaded the drivers of GPUs.
pub fn drivers_are_loaded() -> bool {
    LOADED.load(Ordering::Relaxed)
}

static LOADED: AtomicBool = AtomicBool::new(false);

/// Opens the device that `spec` names, to multiply in single precision: see [`open_for`].
///
/// # Errors
/// As [`open_for`].
pub fn open(spec: &str) -> Result<Box<dyn Backend>> {
    open_for(spec, Precision::F32)
}

/// Opens the device that `spec` names, to multiply in `precision`.
///
/// - `auto`: the first real GPU (discrete before integrated), else the CPU. Never a software rasteriser.
/// - `cpu`
/// - `gpu`: the first real GPU. `gpu:N`: entry N of [`devices`], software rasterisers included.
/// - anything else: the first GPU whose name contains it, in whatever case.
///
/// # Errors
/// If no such device exists (the message lists what does), it cannot be opened, or it has no such precision. There is no
/// fallback to another.
pub fn open_for(spec: &str, precision: Precision) -> Result<Box<dyn Backend>> {
    let spec = spec.trim();
    if spec == "cpu" || (spec == "auto" && !may_have_gpu()) {
        return open_cpu(precision);
    }
    let mut gpus = gpus();
    match choose(spec, &infos(&gpus))? {
        Choice::Cpu => open_cpu(precision),
        Choice::Gpu(index) => open_gpu(gpus.swap_remove(index), precision),
    }
}

fn open_cpu(precision: Precision) -> Result<Box<dyn Backend>> {
    match precision {
        Precision::F32 => Ok(Box::new(CpuBackend::new(None)?)),
        Precision::F16 | Precision::Int8 => Err(has_not("cpu", precision)),
    }
}

/// The device that `spec` names as [`open_for`] does, without opening it.
///
/// # Errors
/// As [`open_for`].
pub fn info(spec: &str, precision: Precision) -> Result<DeviceInfo> {
    let spec = spec.trim();
    let mut found = if spec == "cpu" || (spec == "auto" && !may_have_gpu()) {
        cpu::info()
    } else {
        let mut gpus = infos(&gpus());
        match choose(spec, &gpus)? {
            Choice::Cpu => cpu::info(),
            Choice::Gpu(index) => gpus.swap_remove(index),
        }
    };
    let offered = match precision {
        Precision::F32 => true,
        Precision::F16 => found.features.iter().any(|feature| feature == "f16"),
        Precision::Int8 => found.kind != Kind::Cpu,
    };
    if !offered {
        return Err(has_not(&found.name, precision));
    }
    found.precision = precision;
    Ok(found)
}

/// A device does not multiply in `precision`.
pub(super) fn has_not(device: &str, precision: Precision) -> Error {
    let problem = DeviceProblem::Precision { wanted: precision.name() };
    Error::Device { device: device.into(), problem }
}

/// What the nodes of GPUs in /dev begin with: of the kernel's graphics drivers, and of those that have their own.
#[cfg(target_os = "linux")]
const NODES: [&str; 8] = ["dri", "nvidia", "dxg", "kgsl", "mali", "pvr", "galcore", "goldfish_"];

/// Whether there may be a real GPU. Looking for one loads every driver (with Mesa's 50 MB, of which little comes back), so
/// `auto` does not where the kernel has none.
#[cfg(target_os = "linux")]
fn may_have_gpu() -> bool {
    let Ok(nodes) = std::fs::read_dir("/dev") else { return true };
    nodes
        .flatten()
        .any(|node| NODES.iter().any(|name| node.file_name().as_encoded_bytes().starts_with(name.as_bytes())))
}

/// Whether there may be a real GPU.
#[cfg(not(target_os = "linux"))]
fn may_have_gpu() -> bool {
    true
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Cpu,
    /// Index into the list of GPUs.
    Gpu(usize),
}

fn choose(spec: &str, gpus: &[DeviceInfo]) -> Result<Choice> {
    let real = gpus.iter().position(|gpu| is_real(gpu.kind));
    let found = match spec {
        "auto" => return Ok(real.map_or(Choice::Cpu, Choice::Gpu)),
        "cuda" => return Err(refusal(spec, "the CUDA back end is not built into this program", gpus)),
        "gpu" => real,
        _ => match spec.strip_prefix("gpu:") {
            Some(number) => number.parse().ok().filter(|&index: &usize| index < gpus.len()),
            None => by_name(spec, gpus),
        },
    };
    let problem = match spec {
        "gpu" if !cfg!(feature = "wgpu") => "this program was built without the wgpu feature",
        "gpu" if !gpus.is_empty() => "there is no real GPU; a software rasteriser is only used when it is named",
        "gpu" => "there is no GPU with a Vulkan, Metal or DX12 driver",
        _ => "there is no such device",
    };
    found.map(Choice::Gpu).ok_or_else(|| refusal(spec, problem, gpus))
}

/// Whether `auto` and `gpu` may take it. Unknown devices can still be named.
fn is_real(kind: Kind) -> bool {
    matches!(kind, Kind::DiscreteGpu | Kind::IntegratedGpu | Kind::VirtualGpu)
}

fn by_name(part: &str, gpus: &[DeviceInfo]) -> Option<usize> {
    let part = part.to_lowercase();
    gpus.iter().position(|gpu| !part.is_empty() && gpu.name.to_lowercase().contains(&part))
}

fn refusal(spec: &str, problem: &str, gpus: &[DeviceInfo]) -> Error {
    let mut choices = String::from("auto, cpu");
    for (index, gpu) in gpus.iter().enumerate() {
        let software = if gpu.kind == Kind::Software { ", software" } else { "" };
        choices += &format!(", gpu:{index} ({}, {}{software})", gpu.name, gpu.backend);
    }
    Error::Device { device: spec.into(), problem: format!("{problem}; choose one of: {choices}").into() }
}

#[cfg(feature = "wgpu")]
fn gpus() -> Vec<Adapter> {
    LOADED.store(true, Ordering::Relaxed);
    at_once(adapters()).unwrap_or_default()
}

#[cfg(feature = "wgpu")]
fn infos(gpus: &[Adapter]) -> Vec<DeviceInfo> {
    gpus.iter().map(|gpu| gpu.info.clone()).collect()
}

#[cfg(feature = "wgpu")]
fn open_gpu(adapter: Adapter, precision: Precision) -> Result<Box<dyn Backend>> {
    let name = adapter.info.name.clone();
    let opened = at_once(WgpuBackend::open_for(adapter, precision, Checks::default()));
    let late = || Err(Error::Device { device: name, problem: "the driver does not answer".into() });
    Ok(Box::new(opened.unwrap_or_else(late)?))
}

#[cfg(not(feature = "wgpu"))]
fn gpus() -> Vec<DeviceInfo> {
    Vec::new()
}

#[cfg(not(feature = "wgpu"))]
fn infos(gpus: &[DeviceInfo]) -> Vec<DeviceInfo> {
    gpus.to_vec()
}

#[cfg(not(feature = "wgpu"))]
fn open_gpu(gpu: DeviceInfo, _: Precision) -> Result<Box<dyn Backend>> {
    let problem = "this program was built without the wgpu feature".into();
    Err(Error::Device { device: gpu.name, problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Limits;

    fn gpu(name: &str, kind: Kind) -> DeviceInfo {
        DeviceInfo {
            name: name.into(),
            backend: "vulkan".into(),
            kind,
            features: Vec::new(),
            driver: String::new(),
            limits: Limits { max_binding_bytes: 1 << 27, max_buffer_bytes: 1 << 28 },
            precision: Precision::F32,
            memory_bytes: None,
        }
    }

    fn message(spec: &str, gpus: &[DeviceInfo]) -> String {
        choose(spec, gpus).map_or_else(|error| error.to_string(), |choice| panic!("{spec} chose {choice:?}"))
    }

    #[test]
    fn auto_takes_a_real_gpu_and_never_software() {
        let software = gpu("llvmpipe (LLVM 15.0.6, 256 bits)", Kind::Software);
        let integrated = gpu("Intel(R) UHD Graphics", Kind::IntegratedGpu);
        assert_eq!(choose("auto", &[]).unwrap(), Choice::Cpu);
        assert_eq!(choose("auto", std::slice::from_ref(&software)).unwrap(), Choice::Cpu);
        assert_eq!(choose("auto", &[integrated, software]).unwrap(), Choice::Gpu(0));
    }

    #[test]
    fn gpu_by_number_or_name() {
        let list = [gpu("NVIDIA H200", Kind::DiscreteGpu), gpu("llvmpipe (LLVM 15.0.6)", Kind::Software)];
        assert_eq!(choose("gpu", &list).unwrap(), Choice::Gpu(0));
        assert_eq!(choose("gpu:1", &list).unwrap(), Choice::Gpu(1));
        assert_eq!(choose("h200", &list).unwrap(), Choice::Gpu(0));
        assert_eq!(choose("LLVMpipe", &list).unwrap(), Choice::Gpu(1));
    }

    #[test]
    fn refusals_say_what_to_choose() {
        let list = [gpu("llvmpipe", Kind::Software)];
        for spec in ["gpu", "gpu:1", "gpu:", "gpu:-1", "cuda", "radeon", ""] {
            let message = message(spec, &list);
            assert!(message.contains("gpu:0 (llvmpipe, vulkan, software)"), "{message}");
            assert!(message.contains("auto, cpu"), "{message}");
        }
        assert!(message("cuda", &list).contains("not built"));
        if cfg!(feature = "wgpu") {
            assert!(message("gpu", &list).contains("software rasteriser"));
        } else {
            assert!(message("gpu", &list).contains("without the wgpu feature"));
        }
    }

    #[test]
    fn the_cpu_multiplies_in_single_precision() {
        for precision in [Precision::F16, Precision::Int8] {
            for message in [open_for("cpu", precision).err(), info("cpu", precision).err()] {
                let error = message.expect("an error");
                assert!(matches!(error, Error::Device { problem: DeviceProblem::Precision { .. }, .. }), "{error}");
            }
        }
        assert_eq!(info("cpu", Precision::F32).unwrap().precision, Precision::F32);
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert!(devices().iter().any(|device| device.kind == Kind::Cpu));
        assert_eq!(open(" cpu ").unwrap().info().kind, Kind::Cpu);
    }
}
