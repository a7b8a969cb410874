//! Kernels of `rows` against their references.
