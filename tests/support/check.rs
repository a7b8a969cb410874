//! A kernel against its reference: by its host functions, and on the GPU that is present.

use loam_shaders::check::{self, Operand, Written};
use loam_shaders::{Call, Need, Step};

/// Largest accepted ||x - reference|| / ||reference||.
const TOLERANCE: f64 = 1e-5;
/// For kernels that multiply in half precision, whose numbers have 11 bits.
const HALF_TOLERANCE: f64 = 1e-3;
/// For kernels that multiply integers from -127 to 127.
const INT8_TOLERANCE: f64 = 1e-2;

/// [`check_kernel_at`] with the default step state.
pub fn check_kernel(call: &Call, operands: &[Operand]) -> Written {
    check_kernel_at(&Step::default(), call, operands)
}

/// [`check::check_within`], and the same on the GPU if there is one that can: every written binding must agree with the
/// reference to a relative norm of 1e-5 (1e-3 in half precision, 1e-2 in 8-bit integers), and nothing past its end may
/// be written. Returns what the reference wrote, in the order of the written bindings.
///
/// # Panics
/// If a result differs.
pub fn check_kernel_at(step: &Step, call: &Call, operands: &[Operand]) -> Written {
    let tolerance = match call.kernel.name() {
        name if name.starts_with("matmul_int8") => INT8_TOLERANCE,
        _ if call.kernel.source.needs.contains(&Need::Half) => HALF_TOLERANCE,
        _ => TOLERANCE,
    };
    let expected = check::check_within(step, call, operands, tolerance);
    if let Some(gpu) = crate::gpu().filter(|gpu| gpu.runs(call.kernel.source)) {
        check::assert_near(call, "gpu", &expected, &gpu.run(step, call, operands), tolerance);
    }
    expected
}
