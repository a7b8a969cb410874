//! Less than single precision: what a device has for it, and which kernels run in place of those that a plan records.
//!
//! Which kernel runs follows from the device alone, not from measurements: kernels of other kinds give other bits.

use std::collections::HashMap;

use ::wgpu as api;
use loam_shaders::{Call, Kernel, Need, Precision, Source, Twin};

use super::device::Gpu;
use super::measure::Bench;
use super::pipeline::Pipelines;
use super::program::Program;
use crate::error::Result;
use crate::plan::Plan;

/// PCI vendor whose cooperative matrices are wrong on some devices (Xe3) and a thousand times slower than plain
/// arithmetic on others (Arc A770).
const INTEL: u32 = 0x8086;
/// PCI vendor some of whose drivers offer cooperative matrices on devices without the hardware. Mesa's does not.
const AMD: u32 = 0x1002;

/// Largest relative error of a product, as a root of mean squares: ten times what is right.
const fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 0.0,
        Precision::F16 => 4e-3,
        Precision::Int8 => 4e-2,
    }
}

/// What a device has for half precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    /// Rows and columns of its cooperative matrices, if they may be used.
    side: Option<u32>,
    /// Threads of four subgroups.
    pub lanes: u32,
}

impl Half {
    /// What `adapter` has. `None`: no `f16` at all.
    pub fn of(adapter: &api::Adapter) -> Option<Self> {
        if !adapter.features().contains(api::Features::SHADER_F16) {
            return None;
        }
        let info = adapter.get_info();
        let lanes = 4 * info.subgroup_max_size;
        let features = api::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | api::Features::SUBGROUP;
        let limits = adapter.limits();
        let usable = adapter.features().contains(features)
            && trusted(&info)
            && (1..=limits.max_compute_invocations_per_workgroup).contains(&lanes)
            && limits.max_compute_workgroup_storage_size >= 32_768;
        let side = if usable { largest_side(&adapter.cooperative_matrix_properties()) } else { None };
        Some(Self { side, lanes })
    }

    /// As a list of features shows it.
    pub fn names(self) -> Vec<String> {
        let matrices = self.side.map(|side| format!("cooperative-matrix-{side}"));
        std::iter::once("f16".to_owned()).chain(matrices).collect()
    }

    /// Features to open the device with.
    pub fn features(self) -> api::Features {
        let matrices = api::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | api::Features::SUBGROUP;
        api::Features::SHADER_F16 | if self.side.is_some() { matrices } else { api::Features::empty() }
    }

    /// Leave to use cooperative matrices.
    pub fn experimental(self) -> api::ExperimentalFeatures {
        match self.side {
            // SAFETY: wgpu warns of holes in its checks; the kernels are part of this program and run without checks
            // anyway, and each is compared with the one it replaces before it is used.
            Some(_) => unsafe { api::ExperimentalFeatures::enabled() },
            None => api::ExperimentalFeatures::disabled(),
        }
    }
}

fn trusted(info: &api::AdapterInfo) -> bool {
    info.vendor != INTEL && (info.vendor != AMD || info.driver == "radv")
}

/// 16 or 8, if matrices of half precision with sums in single precision have that many rows, columns and steps.
fn largest_side(offered: &[api::CooperativeMatrixProperties]) -> Option<u32> {
    let fits = |side: u32| {
        offered.iter().any(|matrix| {
            [matrix.m_size, matrix.n_size, matrix.k_size] == [side; 3]
                && matrix.ab_type == api::CooperativeScalarType::F16
                && matrix.cr_type == api::CooperativeScalarType::F32
        })
    };
    [16, 8].into_iter().find(|&side| fits(side))
}

/// Whether `gpu` was opened with all that a kernel needs.
fn runs(gpu: &Gpu, source: &Source) -> bool {
    source.needs.iter().all(|need| match need {
        Need::Half => gpu.half.is_some(),
        Need::Cooperative(side) => gpu.half.is_some_and(|half| half.side == Some(*side)),
    })
}

/// The kernels for `precision` that may run in place of `kernel`, the best first.
pub fn of(kernel: &Kernel, precision: Precision) -> impl Iterator<Item = &'static Twin> {
    let all: &'static [_] = kernel.reduced;
    all.iter().filter(move |reduced| reduced.precision == precision).map(|reduced| &reduced.twin)
}

/// The kernels that were found right on this device, by the kernel that they replace.
#[derive(Debug, Default)]
pub struct Replacements(HashMap<&'static str, Option<&'static Twin>>);

impl Replacements {
    /// Lets every dispatch of `program` that can run in the device's precision do so.
    ///
    /// # Errors
    /// If the device failed.
    pub fn replace(&mut self, gpu: &Gpu, pipelines: &mut Pipelines, plan: &Plan, program: &mut Program) -> Result<()> {
        let precision = gpu.info.precision;
        let has_some = |kernel: &Kernel| of(kernel, precision).next().is_some();
        for (index, node) in plan.nodes.iter().enumerate().filter(|(_, node)| has_some(node.call.kernel)) {
            let call = &node.call;
            let name = call.kernel.name();
            if !self.0.contains_key(name) {
                let Some(bench) = Bench::new(plan, program, index) else { continue };
                let right = first_right(gpu, pipelines, &bench, call)?;
                self.0.insert(name, right);
            }
            if let Some(twin) = self.0[name] {
                let pipeline = pipelines.get(gpu, twin.kernel)?.pipeline.clone();
                program.replace(index, pipeline, (twin.grid)(&call.params));
            }
        }
        Ok(())
    }

    /// Names of kernels, and of those that run in their place, `None` where every one was wrong.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        self.0.iter().map(|(name, twin)| (*name, twin.map(|twin| twin.kernel.name())))
    }
}

/// The best kernel for `call` that this device can run and whose results are right.
fn first_right(gpu: &Gpu, pipelines: &mut Pipelines, bench: &Bench<'_>, call: &Call) -> Result<Option<&'static Twin>> {
    let recorded = pipelines.get(gpu, call.kernel)?.pipeline.clone();
    let expected = bench.output(gpu, &recorded, call.grid)?;
    let precision = gpu.info.precision;
    for twin in of(call.kernel, precision).filter(|twin| runs(gpu, twin.kernel.source)) {
        let pipeline = pipelines.get(gpu, twin.kernel)?.pipeline.clone();
        let found = bench.output(gpu, &pipeline, (twin.grid)(&call.params))?;
        if error(&expected, &found) < tolerance(precision) {
            return Ok(Some(twin));
        }
    }
    Ok(None)
}

/// ||found - expected|| / ||expected||; NaN if a value is.
fn error(expected: &[u32], found: &[u32]) -> f64 {
    let values =
        expected.iter().zip(found).map(|(e, f)| (f64::from(f32::from_bits(*e)), f64::from(f32::from_bits(*f))));
    let (error, norm) = values.fold((0.0, 0.0), |(error, norm), (e, f)| (error + (f - e).powi(2), norm + e.powi(2)));
    (error / f64::max(norm, f64::MIN_POSITIVE)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(sizes: [u32; 3], ab_type: api::CooperativeScalarType) -> api::CooperativeMatrixProperties {
        api::CooperativeMatrixProperties {
            m_size: sizes[0],
            n_size: sizes[1],
            k_size: sizes[2],
            ab_type,
            cr_type: api::CooperativeScalarType::F32,
            saturating_accumulation: false,
        }
    }

    #[test]
    fn square_matrices_of_half_precision_are_usable() {
        use api::CooperativeScalarType::{F16, F32};
        assert_eq!(largest_side(&[matrix([8; 3], F16), matrix([16; 3], F16)]), Some(16));
        assert_eq!(largest_side(&[matrix([16; 3], F32), matrix([8; 3], F16)]), Some(8));
        assert_eq!(largest_side(&[matrix([8, 16, 16], F16), matrix([8; 3], F32)]), None);
    }

    #[test]
    fn results_that_are_no_numbers_are_wrong() {
        let bits = |values: [f32; 2]| values.map(f32::to_bits);
        assert!(error(&bits([1.0, -2.0]), &bits([1.0, -2.0])) < tolerance(Precision::F16));
        assert!(error(&bits([1.0, -2.0]), &bits([1.0, -2.1])) > tolerance(Precision::F16));
        assert!(error(&bits([1.0, -2.0]), &bits([1.0, f32::NAN])).is_nan(), "NaN is not below any bound");
    }
}
