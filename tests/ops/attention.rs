//! Kernels of `attention` against their references.
