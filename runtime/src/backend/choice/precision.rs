//! Less than single precision: which kernels run in place of those that a plan records.
//!
//! Which kernel runs follows from the device alone, not from measurements: kernels of other kinds give other bits.

use std::collections::HashMap;

use loam_shaders::{Kernel, Precision, Source, Variant};

use super::bench::{Bench, Candidate};
use crate::backend::{Backend, DeviceInfo};
use crate::error::Result;
use crate::plan::{Node, Plan};

/// Largest relative error of a product, as a root of mean squares: ten times what is right.
const fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 0.0,
        Precision::F16 => 4e-3,
        Precision::Int8 => 4e-2,
    }
}

/// Whether a device offers all that a kernel needs.
fn runs(info: &DeviceInfo, source: &Source) -> bool {
    source.needs.iter().all(|need| info.offers.contains(need))
}

/// The kernels for `precision` that may run in place of `kernel`, the best first.
pub fn candidates(kernel: &Kernel, precision: Precision) -> impl Iterator<Item = &'static Variant> {
    let all: &'static [_] = kernel.by_precision;
    all.iter().filter(move |one| one.precision == precision).map(|one| &one.variant)
}

/// The kernels that were found right on this device, by the kernel that they replace.
#[derive(Debug, Default)]
pub struct Replacements(HashMap<&'static str, Option<&'static Variant>>);

impl Replacements {
    /// Lets every node of `plan` that can run in the device's precision do so.
    ///
    /// # Errors
    /// If the device failed.
    pub async fn replace(&mut self, backend: &mut dyn Backend, plan: &mut Plan) -> Result<()> {
        let precision = backend.info().precision;
        let has_some = |node: &&mut Node| candidates(node.call.kernel, precision).next().is_some();
        for node in plan.nodes.iter_mut().filter(has_some) {
            let name = node.call.kernel.name();
            if !self.0.contains_key(name) {
                let Some(right) = first_right(backend, node).await? else { continue };
                self.0.insert(name, right);
            }
            if let Some(found) = self.0[name] {
                let call = &mut node.call;
                (call.kernel, call.grid) = (found.kernel, (found.grid)(&call.params));
            }
        }
        Ok(())
    }

    /// Names of kernels, and of those that run in their place, `None` where every one was wrong.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        self.0.iter().map(|(name, variant)| (*name, variant.map(|variant| variant.kernel.name())))
    }
}

/// The best kernel for `node` that this device can run and whose results are right, `Some(None)` if all are wrong.
/// `None` for a node that cannot be run by itself.
async fn first_right(backend: &mut dyn Backend, node: &Node) -> Result<Option<Option<&'static Variant>>> {
    let info = backend.info().clone();
    let call = &node.call;
    let Some(mut bench) = Bench::new(backend, node).await? else { return Ok(None) };
    let expected = bench.output(Candidate { kernel: call.kernel, grid: call.grid }).await?;
    for other in candidates(call.kernel, info.precision).filter(|other| runs(&info, other.kernel.source)) {
        let found = bench.output(Candidate { kernel: other.kernel, grid: (other.grid)(&call.params) }).await?;
        if error(&expected, &found) < tolerance(info.precision) {
            return Ok(Some(Some(other)));
        }
    }
    Ok(Some(None))
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

    #[test]
    fn results_that_are_no_numbers_are_wrong() {
        let bits = |values: [f32; 2]| values.map(f32::to_bits);
        assert!(error(&bits([1.0, -2.0]), &bits([1.0, -2.0])) < tolerance(Precision::F16));
        assert!(error(&bits([1.0, -2.0]), &bits([1.0, -2.1])) > tolerance(Precision::F16));
        assert!(error(&bits([1.0, -2.0]), &bits([1.0, f32::NAN])).is_nan(), "NaN is not below any bound");
    }
}
