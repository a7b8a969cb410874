//! Kernels of `embed` against their references.
