//! Which twin of a kernel runs: measured on this device, once per kernel and parameters, and kept in a file.
//!
//! Twins compute the same bits ([`loam_shaders::Twin`]), so that what is chosen changes the speed of a run and nothing
//! else. A twin whose bits differ on this driver is never used. Without a measurement the recorded kernel runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use embassy_time::Instant;
use loam_shaders::{Call, Kernel};
use serde::{Deserialize, Serialize};

use super::device::Gpu;
use super::measure::Bench;
use super::pipeline::Pipelines;
use super::program::Program;
use super::reduced;
use crate::digest::Sha256;
use crate::error::Result;
use crate::file;
use crate::plan::Plan;

/// Time that one process may spend on measurements. What is left over runs as recorded and is measured another time.
const BUDGET: Duration = Duration::from_secs(3);
/// Largest file of choices that is read.
const FILE_LIMIT: u64 = 1 << 20;
/// A twin must take less than this part of the time of the kernel in use: choices should not follow the noise.
const BETTER: f64 = 0.97;

/// Choices for one device and driver, as the file holds them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Choices {
    /// Device, driver and kernels that they hold for.
    device: String,
    /// Name of the kernel by [`shape_class`].
    kernels: BTreeMap<String, String>,
}

/// The choices of a device.
#[derive(Debug)]
pub struct Tuning {
    choices: Choices,
    path: Option<PathBuf>,
    spent: Duration,
}

impl Tuning {
    /// Choices for `gpu`, read from a file in `folder` if there is one that holds for this device, driver and version.
    pub fn new(gpu: &Gpu, folder: Option<PathBuf>) -> Self {
        let device = identity(gpu);
        let path = folder.map(|folder| folder.join(format!("tuning-{}.json", &digest(device.as_bytes())[..16])));
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

    /// Lets every dispatch of `program` whose kernel has twins use the fastest, measuring those not known yet.
    ///
    /// # Errors
    /// If the device failed.
    pub fn improve(&mut self, gpu: &Gpu, pipelines: &mut Pipelines, plan: &Plan, program: &mut Program) -> Result<()> {
        let known = self.choices.kernels.len();
        // What will run in less precision has no twins.
        let stays = |kernel: &Kernel| reduced::of(kernel, gpu.info.precision).next().is_none();
        let has_twins = |kernel: &Kernel| !kernel.twins.is_empty() && stays(kernel);
        for (index, node) in plan.nodes.iter().enumerate().filter(|(_, node)| has_twins(node.call.kernel)) {
            let call = &node.call;
            let class = shape_class(call);
            if !self.choices.kernels.contains_key(&class) {
                let Some(bench) = Bench::new(plan, program, index).filter(|_| self.spent < BUDGET) else { continue };
                let began = Instant::now();
                let fastest = fastest(gpu, pipelines, &bench, call)?;
                self.choices.kernels.insert(class.clone(), fastest.name().to_owned());
                self.spent += Duration::from_micros(began.elapsed().as_micros());
            }
            let chosen = &self.choices.kernels[&class];
            // A name that is no twin's means the recorded kernel.
            if let Some(twin) = call.kernel.twins.iter().find(|twin| twin.kernel.name() == chosen) {
                let pipeline = pipelines.get(gpu, twin.kernel)?.pipeline.clone();
                program.replace(index, pipeline, (twin.grid)(&call.params));
            }
        }
        if self.choices.kernels.len() > known {
            self.save();
        }
        Ok(())
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

/// The kernel among `call`'s own and its twins that takes the least time, if its bits are right.
fn fastest(gpu: &Gpu, pipelines: &mut Pipelines, bench: &Bench<'_>, call: &Call) -> Result<&'static Kernel> {
    let recorded = pipelines.get(gpu, call.kernel)?.pipeline.clone();
    let expected = bench.output(gpu, &recorded, call.grid)?;
    let mut best = (call.kernel, bench.seconds(gpu, &recorded, call.grid)?);
    for twin in call.kernel.twins {
        let (pipeline, grid) = (pipelines.get(gpu, twin.kernel)?.pipeline.clone(), (twin.grid)(&call.params));
        if bench.output(gpu, &pipeline, grid)? == expected {
            let seconds = bench.seconds(gpu, &pipeline, grid)?;
            if seconds < BETTER * best.1 {
                best = (twin.kernel, seconds);
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

/// What choices depend on: device, driver, and the text of all kernels that have or are twins.
fn identity(gpu: &Gpu) -> String {
    let mut kernels = Sha256::new();
    for kernel in loam_shaders::kernels().filter(|kernel| !kernel.twins.is_empty()) {
        kernels.update(kernel.source.wgsl.as_bytes());
        kernel.twins.iter().for_each(|twin| kernels.update(twin.kernel.source.wgsl.as_bytes()));
    }
    let info = &gpu.info;
    format!("{} | {} | {} | {}", info.backend, info.name, info.driver, kernels.hex())
}

fn digest(bytes: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(bytes);
    digest.hex()
}
