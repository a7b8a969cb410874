//! Kernels of `rmsnorm` against their references.
