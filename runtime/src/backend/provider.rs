//! Where devices come from: a list, so that a back end more is a line more.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Backend, DeviceInfo, MaybeSend, Options, Pending};
use crate::error::Result;

/// Back ends with devices, in the order in which devices are listed.
pub(super) static PROVIDERS: &[&Provider] = &[
    #[cfg(feature = "wgpu")]
    &super::wgpu::PROVIDER,
    &super::cpu::PROVIDER,
];

/// A back end that has devices.
pub struct Provider {
    /// Name of the back end. It names the first of its devices too.
    pub name: &'static str,
    /// Whether there may be a real GPU, found out without loading a driver. `None`: the back end has no GPUs.
    pub may_have_gpu: Option<fn() -> bool>,
    /// All its devices. Where it has GPUs, this loads their drivers.
    pub devices: fn() -> Pending<'static, Vec<Device>>,
}

/// A device that can be opened.
pub struct Device {
    /// What device lists show.
    pub info: DeviceInfo,
    /// Opens it.
    pub open: Box<dyn Opener>,
}

/// Opens a device.
pub trait Opener: FnOnce(Options) -> Pending<'static, Box<dyn Backend>> + MaybeSend {}

impl<F: FnOnce(Options) -> Pending<'static, Box<dyn Backend>> + MaybeSend> Opener for F {}

/// Whether drivers of GPUs were loaded.
static LOADED: AtomicBool = AtomicBool::new(false);

/// Whether this process has loaded the drivers of GPUs.
pub fn drivers_are_loaded() -> bool {
    LOADED.load(Ordering::Relaxed)
}

/// The devices of those providers that `wanted` picks.
pub(super) async fn devices(wanted: impl Fn(&Provider) -> bool) -> Result<Vec<Device>> {
    let mut all = Vec::new();
    for provider in PROVIDERS.iter().filter(|provider| wanted(provider)) {
        if provider.may_have_gpu.is_some() {
            LOADED.store(true, Ordering::Relaxed);
        }
        all.extend((provider.devices)().await?);
    }
    Ok(all)
}
