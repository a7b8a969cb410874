//! The products in less than single precision: kernels that a back end runs in place of the tiled ones where it was
//! asked to.
//!
//! In half precision weights and activations are rounded to 11 bits on their way into a product, each row of
//! activations or gradients scaled by a power of two (`include/matmul/row_factors.wgsl`); sums are kept in single
//! precision, over 8 or 16 products at most in half precision. By cooperative matrices every sum is in single
//! precision. In integers of 8 bits (`forward/int8.wgsl`) only the forward product is there.

use super::{TILE, forward_reference, slabs, tiles, transposed_reference};
use crate::kernel::{InPrecision, Kernel, Precision, params};
use crate::{Format, source};

const FORMATS: usize = Format::ALL.len();
/// Tokens per workgroup by matrices of 16 and of 8.
const TOKENS: [u32; 2] = [128, 32];

pub(super) static TILED: [Kernel; FORMATS] = Kernel::family(&source::MATMUL_HALF, forward_reference, None);
pub(super) static INT8: [Kernel; FORMATS] = Kernel::family(&source::MATMUL_INT8, forward_reference, None);
pub(super) static TRANSPOSED: [Kernel; FORMATS] =
    Kernel::family(&source::MATMUL_HALF_TRANSPOSED, transposed_reference, None);
pub(super) static TILED_16: [Kernel; FORMATS] = Kernel::family(&source::MATMUL_COOPERATIVE_16, forward_reference, None);
pub(super) static TILED_8: [Kernel; FORMATS] = Kernel::family(&source::MATMUL_COOPERATIVE_8, forward_reference, None);
pub(super) static TRANSPOSED_16: [Kernel; FORMATS] =
    Kernel::family(&source::MATMUL_COOPERATIVE_TRANSPOSED_16, transposed_reference, None);
pub(super) static TRANSPOSED_8: [Kernel; FORMATS] =
    Kernel::family(&source::MATMUL_COOPERATIVE_TRANSPOSED_8, transposed_reference, None);

/// In place of `matmul_tile`, by format.
pub(super) static FORWARD: [[InPrecision; 4]; FORMATS] = InPrecision::families(
    [Precision::F16, Precision::F16, Precision::F16, Precision::Int8],
    &[
        (&TILED_16, |bytes| tiles(&params(bytes), TILE, TOKENS[0])),
        (&TILED_8, |bytes| tiles(&params(bytes), TILE, TOKENS[1])),
        (&TILED, |bytes| tiles(&params(bytes), TILE, TILE)),
        (&INT8, |bytes| tiles(&params(bytes), TILE, TILE)),
    ],
);
/// In place of `matmul_transposed`, by format.
pub(super) static BACKWARD: [[InPrecision; 3]; FORMATS] = InPrecision::families(
    [Precision::F16; 3],
    &[
        (&TRANSPOSED_16, |bytes| slabs(&params(bytes), TOKENS[0])),
        (&TRANSPOSED_8, |bytes| slabs(&params(bytes), TOKENS[1])),
        (&TRANSPOSED, |bytes| slabs(&params(bytes), TILE)),
    ],
);
