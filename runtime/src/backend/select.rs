//! Which device to use: `auto`, `cpu`, `gpu`, `gpu:N`, or part of a name in the list of devices.

pub use super::provider::drivers_are_loaded;
use super::provider::{self, Device, PROVIDERS};
use super::{Backend, DeviceInfo, Kind, Options, Precision, choice};
use crate::error::{Error, Result};
use crate::problem::DeviceProblem;

/// All devices: GPUs in the order of `gpu:N`, real ones before software rasterisers, then the CPU.
///
/// # Errors
/// If a back end cannot list its devices.
pub async fn devices() -> Result<Vec<DeviceInfo>> {
    Ok(provider::devices(|_| true).await?.into_iter().map(|device| device.info).collect())
}

/// Opens the device that `spec` names. Which of several kernels runs on it is chosen as `options` say ([`choice`]).
///
/// - `auto`: the first real GPU (discrete before integrated), else the CPU. Never a software rasteriser.
/// - `cpu`
/// - `gpu`: the first real GPU. `gpu:N`: entry N of [`devices`], software rasterisers included.
/// - anything else: the first GPU whose name contains it, in whatever case.
///
/// # Errors
/// If no such device exists (the message lists what does), it cannot be opened, or it has no such precision. There is
/// no fallback to another.
pub async fn open(spec: &str, options: &Options) -> Result<Box<dyn Backend>> {
    let device = find(spec, options.precision).await?;
    let backend = (device.open)(options.clone()).await?;
    Ok(choice::among_kernels(backend, options))
}

/// The device that `spec` names as [`open`] does, without opening it.
///
/// # Errors
/// As [`open`].
pub async fn info(spec: &str, precision: Precision) -> Result<DeviceInfo> {
    let found = find(spec, precision).await?.info;
    Ok(DeviceInfo { precision, ..found })
}

/// The device that `spec` names.
async fn find(spec: &str, precision: Precision) -> Result<Device> {
    let spec = spec.trim();
    let named = PROVIDERS.iter().any(|provider| provider.name == spec);
    let mut listed = provider::devices(|provider| match provider.may_have_gpu {
        _ if named => provider.name == spec,
        // Looking for GPUs loads every driver.
        Some(may_have_gpu) => spec != "auto" || may_have_gpu(),
        None => true,
    })
    .await?;
    let infos: Vec<DeviceInfo> = listed.iter().map(|device| device.info.clone()).collect();
    let found = if named && !infos.is_empty() { 0 } else { choose(spec, &infos)? };
    let device = listed.swap_remove(found);
    match device.info.precisions.contains(&precision) {
        true => Ok(device),
        false => Err(has_not(&device.info.name, precision)),
    }
}

/// A device does not multiply in `precision`.
pub(super) fn has_not(device: &str, precision: Precision) -> Error {
    let problem = DeviceProblem::Precision { wanted: precision.name() };
    Error::Device { device: device.into(), problem }
}

/// The place in `devices`, GPUs first, of the one that is meant.
fn choose(spec: &str, devices: &[DeviceInfo]) -> Result<usize> {
    let is_gpu = |device: &&DeviceInfo| device.kind != Kind::Cpu;
    let gpus: Vec<&DeviceInfo> = devices.iter().take_while(is_gpu).collect();
    let real = gpus.iter().position(|gpu| gpu.kind.is_real_gpu());
    let found = match spec {
        "auto" => real.or_else(|| devices.iter().position(|device| device.kind == Kind::Cpu)),
        "cuda" => return Err(refusal(spec, "the CUDA back end is not built into this program", &gpus)),
        "gpu" => real,
        _ => match spec.strip_prefix("gpu:") {
            Some(number) => number.parse().ok().filter(|&index: &usize| index < gpus.len()),
            None => by_name(spec, &gpus),
        },
    };
    let problem = match spec {
        "gpu" if PROVIDERS.iter().all(|provider| provider.may_have_gpu.is_none()) => {
            "this program was built without a back end for GPUs"
        }
        "gpu" if !gpus.is_empty() => "there is no real GPU; a software rasteriser is only used when it is named",
        "gpu" => "there is no GPU with a Vulkan, Metal or DX12 driver",
        _ => "there is no such device",
    };
    found.ok_or_else(|| refusal(spec, problem, &gpus))
}

fn by_name(part: &str, gpus: &[&DeviceInfo]) -> Option<usize> {
    let part = part.to_lowercase();
    gpus.iter().position(|gpu| !part.is_empty() && gpu.name.to_lowercase().contains(&part))
}

fn refusal(spec: &str, problem: &str, gpus: &[&DeviceInfo]) -> Error {
    let mut choices = String::from("auto, cpu");
    for (index, gpu) in gpus.iter().enumerate() {
        let software = if gpu.kind == Kind::Software { ", software" } else { "" };
        choices += &format!(", gpu:{index} ({}, {}{software})", gpu.name, gpu.backend);
    }
    Error::Device { device: spec.into(), problem: format!("{problem}; choose one of: {choices}").into() }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

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
            offers: Vec::new(),
            precisions: vec![Precision::F32],
            precision: Precision::F32,
            memory_bytes: None,
            rehearsed: false,
        }
    }

    /// `gpus`, and the CPU at the end as in every list.
    fn with_cpu(gpus: &[DeviceInfo]) -> Vec<DeviceInfo> {
        [gpus, &[gpu("cpu", Kind::Cpu)]].concat()
    }

    fn message(spec: &str, gpus: &[DeviceInfo]) -> String {
        choose(spec, &with_cpu(gpus)).map_or_else(|error| error.to_string(), |choice| panic!("{spec} chose {choice:?}"))
    }

    #[test]
    fn auto_takes_a_real_gpu_and_never_software() {
        let software = gpu("llvmpipe (LLVM 15.0.6, 256 bits)", Kind::Software);
        let integrated = gpu("Intel(R) UHD Graphics", Kind::IntegratedGpu);
        assert_eq!(choose("auto", &with_cpu(&[])).unwrap(), 0);
        assert_eq!(choose("auto", &with_cpu(std::slice::from_ref(&software))).unwrap(), 1);
        assert_eq!(choose("auto", &with_cpu(&[integrated, software])).unwrap(), 0);
    }

    #[test]
    fn gpu_by_number_or_name() {
        let list = with_cpu(&[gpu("NVIDIA H200", Kind::DiscreteGpu), gpu("llvmpipe (LLVM 15.0.6)", Kind::Software)]);
        for (spec, expected) in [("gpu", 0), ("gpu:1", 1), ("h200", 0), ("LLVMpipe", 1)] {
            assert_eq!(choose(spec, &list).unwrap(), expected, "{spec}");
        }
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
            assert!(message("gpu", &list).contains("without a back end for GPUs"));
        }
    }

    #[test]
    fn the_cpu_multiplies_in_single_precision() {
        for precision in [Precision::F16, Precision::Int8] {
            let options = Options { precision, ..Options::default() };
            for message in [block_on(open("cpu", &options)).err(), block_on(info("cpu", precision)).err()] {
                let error = message.expect("an error");
                assert!(matches!(error, Error::Device { problem: DeviceProblem::Precision { .. }, .. }), "{error}");
            }
        }
        assert_eq!(block_on(info("cpu", Precision::F32)).unwrap().precision, Precision::F32);
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert!(block_on(devices()).unwrap().iter().any(|device| device.kind == Kind::Cpu));
        assert_eq!(block_on(open(" cpu ", &Options::default())).unwrap().info().kind, Kind::Cpu);
    }
}
