//! Kernels of `elementwise` against their references.
