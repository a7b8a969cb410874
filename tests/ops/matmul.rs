//! Kernels of `matmul` against their references.
