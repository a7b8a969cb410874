//! Which variant of a kernel runs: measured on this device, once per kernel and parameters, and kept in a file.
//!
//! Variants compute the same bits ([`loam_shaders::Variant`]), so that what is chosen changes the speed of a run and
//! nothing else. A variant whose bits differ on this driver is never used. Without a measurement the recorded kernel
//! runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use embassy_time::Instant;
use loam_shaders::{Call, Kernel};
use serde::{Deserialize, Serialize};

use super::bench::{Bench, Candidate};
use super::precision;
use crate::backend::{Backend, DeviceInfo};
use crate::digest::{Sha256, sha256_hex};
use crate::error::Result;
use crate::file;
use crate::plan::{Node, Plan};

/// Time that one process may spend on measurements. What is left over runs as recorded and is measured another time.
const BUDGET: Duration = Duration::from_secs(3);
/// Largest file of choices that is read.
const FILE_LIMIT: u64 = 1 << 20;
/// A variant must take less than this part of the time of the kernel in use: choices should not follow the noise.
const BETTER: f64 = 0.97;

/// Choices for one device and driver, as the file holds them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Choices {
    /// Device, driver and kernels that they hold for.
    device: String,
    /// Name of the kernel by [`shape_class`].
    kernels: BTreeMap<String, String>,
}

/// Chooses by measurement on one device.
#[derive(Debug)]
pub struct Tuner {
    choices: Choices,
    path: Option<PathBuf>,
    spent: Duration,
}

impl Tuner {
    /// Choices for the device `info`, read from a file in `folder` if there is one that holds for this device, driver
    /// and version.
    pub fn new(info: &DeviceInfo, folder: Option<PathBuf>) -> Self {
        let device = identity(info);
        let path = folder.map(|folder| folder.join(format!("tuning-{}.json", &sha256_hex(device.as_bytes())[..16])));
        let known = path.as_ref().and_then(|path| file::read_bounded(path, FILE_LIMIT).ok());
        // A cache: one that is damaged or of another device is measured again.
        let known = known.and_then(|bytes| serde_json::from_slice::<Choices>(&bytes).ok());
        let choices = known.filter(|choices| choices.device == device);
        let choices = choices.unwrap_or(Choices { device, kernels: BTreeMap::new() });
        Self { choices, path, spent: Duration::ZERO }
    }

    /// Kernels by shape class, as chosen so far.
    pub fn choices(&self) -> &BTreeMap<String, String> {
        &self.choices.kernels
    }

    /// Lets every node of `plan` whose kernel has variants run the fastest, measuring those not known yet.
    ///
    /// # Errors
    /// If the device failed.
    pub async fn improve(&mut self, backend: &mut dyn Backend, plan: &mut Plan) -> Result<()> {
        let known = self.choices.kernels.len();
        let used = backend.info().precision;
        // What will run in less precision has no variants.
        let stays = |kernel: &Kernel| precision::candidates(kernel, used).next().is_none();
        let has_variants = |node: &&mut Node| !node.call.kernel.variants.is_empty() && stays(node.call.kernel);
        for node in plan.nodes.iter_mut().filter(has_variants) {
            let class = shape_class(&node.call);
            if !self.choices.kernels.contains_key(&class) {
                let Some(fastest) = self.measure(backend, node).await? else { continue };
                self.choices.kernels.insert(class.clone(), fastest.name().to_owned());
            }
            let (call, chosen) = (&mut node.call, &self.choices.kernels[&class]);
            // A name that is no variant's means the recorded kernel.
            if let Some(variant) = call.kernel.variants.iter().find(|variant| variant.kernel.name() == chosen) {
                (call.kernel, call.grid) = (variant.kernel, (variant.grid)(&call.params));
            }
        }
        if self.choices.kernels.len() > known {
            self.save();
        }
        Ok(())
    }

    /// The fastest kernel for `node`, if it can be measured and there is time for it.
    async fn measure(&mut self, backend: &mut dyn Backend, node: &Node) -> Result<Option<&'static Kernel>> {
        if self.spent >= BUDGET {
            return Ok(None);
        }
        let began = Instant::now();
        let Some(mut bench) = Bench::new(backend, node).await? else { return Ok(None) };
        let fastest = fastest(&mut bench, &node.call).await?;
        self.spent += Duration::from_micros(began.elapsed().as_micros());
        Ok(Some(fastest))
    }

    /// Writes the file. One that cannot be written is only missed: the next process measures again.
    fn save(&mut self) {
        let Some(path) = &self.path else { return };
        let written = file::write_atomic(path, |out| {
            serde_json::to_writer_pretty(out, &self.choices)
                .map_err(|error| file::io_error("write", path)(error.into()))
        });
        if written.is_err() {
            self.path = None;
        }
    }
}

/// The kernel among `call`'s own and its variants that takes the least time, if its bits are right.
async fn fastest(bench: &mut Bench<'_>, call: &Call) -> Result<&'static Kernel> {
    let recorded = Candidate { kernel: call.kernel, grid: call.grid };
    let expected = bench.output(recorded).await?;
    let mut best = (call.kernel, bench.seconds(recorded).await?);
    for variant in call.kernel.variants {
        let candidate = Candidate { kernel: variant.kernel, grid: (variant.grid)(&call.params) };
        if bench.output(candidate).await? == expected {
            let seconds = bench.seconds(candidate).await?;
            if seconds < BETTER * best.1 {
                best = (variant.kernel, seconds);
            }
        }
    }
    Ok(best.0)
}

/// Kernel and parameters: `matmul_tile_q4_0 512,768,0,2048,2048,0,2,0`.
fn shape_class(call: &Call) -> String {
    let words: Vec<String> =
        call.params.chunks_exact(4).map(|word| bytemuck::pod_read_unaligned::<u32>(word).to_string()).collect();
    format!("{} {}", call.kernel.name(), words.join(","))
}

/// What choices depend on: device, driver, and the text of all kernels that have or are variants.
fn identity(info: &DeviceInfo) -> String {
    let mut kernels = Sha256::new();
    for kernel in loam_shaders::kernels().filter(|kernel| !kernel.variants.is_empty()) {
        kernels.update(kernel.source.wgsl.as_bytes());
        kernel.variants.iter().for_each(|variant| kernels.update(variant.kernel.source.wgsl.as_bytes()));
    }
    format!("{} | {} | {} | {}", info.backend, info.name, info.driver, kernels.hex())
}
